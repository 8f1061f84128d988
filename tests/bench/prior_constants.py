"""The constants of llama-quantize's prior, from single tensors of several models, by one rule.

    llama-kld-probe -m A.gguf -f TEXT --imatrix A.imatrix --results A.jsonl --types iq3_s \\
        -c 256 --chunks 16 --fit off --hold native          # and so for every model
    python -m tests.bench.prior_constants --bin BIN --source TREE/src \\
        --model a A.gguf A.imatrix A.jsonl --model b B.gguf B.imatrix B.jsonl [--model ...]

The prior is alpha = constant(role) * s, s from weights and imatrix (docs/target-bpw.md). For every
tensor s is what the tool's plan says, its constant, read from the source, divided out. TEXT is one
of training or calibration, never one that anything is evaluated on.

The rule, for every constant alike; it was written down before any of its results was seen:

1. q = KLD / (s * rho), of each tensor alone at the type. A tied embedding matrix has two roles in
   one KLD, and tells no constant.
2. The median of ln q over a model's tensors of a role is the cell (model, role). Roles are the
   entries of the source's table; head; embedding.
3. Least squares: cell = scale of the model + number of the role, the scales adding up to zero. (All
   models with all roles: the geometric mean over the models.)
4. The constants are the exponentials, two significant digits, the table's being relative to
   ffn_down's.
5. A role that no model has keeps its earlier constant, relative to the mean over the table's roles
   that are known. (Added after the results, for tensors that no model here has: what holds two
   others' rows, such as gate and up, has the sum of their constants.)

What a constant is worth is said by **leaving one model out**: constants of the others, and on the
one left out the rank correlation of alpha and prior and the standard deviation of ln(alpha/prior).
The new prior replaces the earlier one if both are better on at least two of three models left out,
and on the third the rank correlation is not lower by more than 0.02 and the standard deviation not
higher by more than a tenth. Of two forms the one with the smaller mean standard deviation over the
models left out is taken, and the simpler one if they differ by less than 0.02.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from llamacpp_pipeline.stages.probe_lines import read_measurements
from tests.bench.allocation_experiment import rank_correlation

DIRECT: Final = ("head", "embedding")  # alpha is the constant
SCALE: Final = "ffn_down"  # the table is relative to it
# Before this rule, from the demo model alone; the table's are relative to C_STREAM = 0.10.
EARLIER: Final = {
    "head": 4.0,
    "embedding": 2.2,
    "ffn_down_exps": 1.0,
    "ffn_gate_exps": 0.55,
    "ffn_up_exps": 0.45,
    "ffn_down": 1.0,
    "ffn_gate": 0.55,
    "ffn_up": 0.45,
    "attn_output": 1.15,
    "ssm_out": 1.15,
    "attn_qkv": 1.6,
    "attn_q": 0.58,
    "attn_k": 0.58,
    "attn_v": 0.85,
    "attn_gate": 0.7,
    "ssm_alpha": 0.06,
    "ssm_beta": 0.07,
}
ENTRY: Final = re.compile(r'\{ "([\w.]+)", +\w+, +(?:true|false), +([\d.]+) \}')
NUMBER: Final = r"constexpr double +{} += ([\d.]+);"

Constants = Mapping[str, float]  # of a role, in nats per unit of s * rho


@dataclass(frozen=True, kw_only=True)
class Part:
    """A tensor in one of its roles: the prior is constant(role) * s * rho."""

    role: str
    s: float
    rho: float


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """Measured alone."""

    name: str
    kld: float
    rho: float  # as the plan's curve has it
    parts: tuple[Part, ...]

    def prior(self, constants: Constants) -> float:
        """Predicted KLD."""
        return sum(constants[part.role] * part.s * part.rho for part in self.parts)


Models = Mapping[str, Sequence[Tensor]]


def cells(tensors: Sequence[Tensor]) -> dict[str, float]:
    """Median of ln(KLD / (s * rho)) of every role."""
    found: dict[str, list[float]] = {}
    for tensor in tensors:
        if len(tensor.parts) == 1:
            part = tensor.parts[0]
            found.setdefault(part.role, []).append(math.log(tensor.kld / (part.s * part.rho)))
    return {role: statistics.median(values) for role, values in found.items()}


def fitted(models: Models) -> Constants:
    """The constants of every role that one of the models has."""
    known = {(model, role): q for model, ts in models.items() for role, q in cells(ts).items()}
    names, roles = sorted(models), sorted({role for _, role in known})
    rows = [[0.0] * (len(names) + len(roles)) for _ in known]
    for row, (model, role) in zip(rows, known, strict=True):
        row[names.index(model)] = row[len(names) + roles.index(role)] = 1.0
    anchor = [1.0] * len(names) + [0.0] * len(roles)
    values = [*known.values(), 0.0]
    solution = np.linalg.lstsq(np.array([*rows, anchor]), np.array(values), rcond=None)[0]
    return {role: math.exp(solution[len(names) + at]) for at, role in enumerate(roles)}


def completed(constants: Constants, roles: Sequence[str]) -> Constants:
    """Roles that no model has keep their earlier constant, at the others' scale."""
    known = [role for role in constants if role not in DIRECT]
    shift = statistics.fmean(math.log(constants[role] / EARLIER[role]) for role in known)
    earlier = {role: EARLIER[role] * math.exp(shift) for role in roles}
    return {**earlier, **constants}


def judged(tensors: Sequence[Tensor], constants: Constants) -> tuple[float, float]:
    """Rank correlation of alpha and prior; standard deviation of ln(alpha/prior)."""
    priors = [tensor.prior(constants) for tensor in tensors]
    logs = [math.log(t.kld / prior) for t, prior in zip(tensors, priors, strict=True)]
    alphas = [tensor.kld / tensor.rho for tensor in tensors]
    assumed = [prior / t.rho for t, prior in zip(tensors, priors, strict=True)]
    return rank_correlation(assumed, alphas), statistics.pstdev(logs)


def read_table(source: Path) -> Constants:
    """The constants that the tool was built with."""
    prior = (source / "llama-quant-bpw-prior.cpp").read_text(encoding="utf-8")
    stream = _number(prior, "C_STREAM")
    table = {name: stream * float(factor) for name, factor in ENTRY.findall(prior)}
    if SCALE not in table:
        raise SystemExit(f"{source}: no table of roles")
    head, embedding = (_number(prior, name) for name in ("C_HEAD", "C_EMBEDDING"))
    return {"head": head, "embedding": embedding, **table}


def _number(text: str, name: str) -> float:
    found = re.search(NUMBER.format(name), text)
    if not found:
        raise SystemExit(f"the source has no constant {name}")
    return float(found[1])


def role_of(name: str, table: Constants) -> str:
    """The first entry of the table that is part of the name."""
    return next(entry for entry in table if entry not in DIRECT and entry in name)


def planned(options: argparse.Namespace, model: Path, imatrix: Path) -> list[Mapping[str, Any]]:
    """The plan's tensors, each at the type."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "plan.json")

        def plan(bpw: float) -> dict[str, Any]:
            flags = ("--imatrix", imatrix, "--target-bpw", repr(bpw), "--type-set", options.type)
            more = ("--measure-all", "--plan-only", "--plan-file", file, model)
            command = [options.bin / "llama-quantize", *flags, *more]
            subprocess.run(command, check=True, capture_output=True)
            found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            return found

        most = plan(16.0)
        least = plan(8 * most["min_bytes"] / most["elements"] + 1e-9)
    return [tensor for tensor in least["tensors"] if tensor["status"] == "chosen"]


def read_model(
    options: argparse.Namespace, files: Sequence[Path], table: Constants
) -> list[Tensor]:
    """Its tensors, as planned and as measured."""
    model, imatrix, results = files
    first, *rest = read_measurements(results)
    alone = {next(iter(m.tensors)): m for m in rest if len(m.tensors) == 1}
    found = []
    for tensor in planned(options, model, imatrix):
        name = tensor["name"]
        if tensor["type"] != options.type or alone[name].only_type != options.type:
            raise SystemExit(f"{name} is not {options.type} alone")
        kld = alone[name].kld - first.kld
        if kld <= 0:
            raise SystemExit(f"{name}: no divergence that could be told from none")
        rho = next(c["rho"] for c in tensor["curve"] if c["type"] == options.type)
        parts = tuple(_part(name, role, table) for role in tensor["roles"])
        found.append(Tensor(name=name, kld=kld, rho=rho, parts=parts))
    return found


def _part(name: str, role: Mapping[str, Any], table: Constants) -> Part:
    if role["name"] in DIRECT:
        return Part(role=role["name"], s=1.0, rho=role["rho"])
    entry = role_of(name, table)
    return Part(role=entry, s=role["alpha"] / table[entry], rho=role["rho"])


def report(models: Models, table: Constants) -> None:
    """The constants, and what they are worth on models that they have not seen."""
    roles = sorted({part.role for ts in models.values() for t in ts for part in t.parts})
    print("cells: exp(median), by model")
    for role in roles:
        values = {model: cells(ts).get(role) for model, ts in models.items()}
        line = ", ".join(f"{m} {math.exp(v):.4f}" for m, v in values.items() if v is not None)
        print(f"  {role}: {line}")
    print("left out: rank correlation, standard deviation of ln(alpha/prior)")
    for left, tensors in models.items():
        others = fitted({name: ts for name, ts in models.items() if name != left})
        shared = [t for t in tensors if all(part.role in others for part in t.parts)]
        new, old = completed(others, roles), table
        for title, chosen in (("all tensors", tensors), ("roles known", shared)):
            figures = [*judged(chosen, old), *judged(chosen, new)]
            was, now = figures[:2], figures[2:]
            print(
                f"  {left}, {title} ({len(chosen)}): the tool's {was[0]:.3f} {was[1]:.3f};"
                f" of the others {now[0]:.3f} {now[1]:.3f}"
            )
    constants = fitted(models)
    print("constants of all models")
    for role, value in constants.items():
        relative = "" if role in DIRECT else f", {value / constants[SCALE]:.2g} of {SCALE}'s"
        print(f"  {role}: {value:.2g}{relative}")
    for name, tensors in models.items():
        rank, spread = judged(tensors, constants)
        print(f"  {name}, which they have seen: {rank:.3f} {spread:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bin", type=Path, required=True, help="folder of the patched tools")
    parser.add_argument("--source", type=Path, required=True, help="src of their tree")
    parser.add_argument("--model", nargs=4, action="append", required=True)
    parser.add_argument("--type", default="iq3_s")
    options = parser.parse_args()
    table = read_table(options.source)
    models = {
        name: read_model(options, [Path(each) for each in files], table)
        for name, *files in options.model
    }
    report(models, table)


if __name__ == "__main__":
    main()
