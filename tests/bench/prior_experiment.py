"""How well does the built-in prior rank the tensors? One tensor quantized at a time says.

    python -m tests.bench.prior_experiment --bin BIN --model F16.gguf --imatrix I.gguf \\
        --text FILE [--chunks 40] [--type iq3_s] [--save W.json]

Quantizes each tensor alone, the others left as they are, and measures the mean KLD. Divided by
rho it is the tensor's sensitivity, alpha. Prints it beside the prior's, their rank correlation,
the spread of the logarithm of their ratio, and the same for each family of tensors. The text is
one of training or calibration: what is learned from it may change the prior, and then no table
may be made on it. `--save` writes a file for `--tensor-weights`.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.allocation_experiment import Bench, rank_correlation

LEFT_ALONE = ("--tensor-type", ".*=bf16")
FLOOR = 1e-7  # divergence that six digits cannot show


@dataclass(frozen=True, kw_only=True)
class Tensor:
    name: str
    prior: float
    rho: float
    measured: float

    @property
    def alpha(self) -> float:
        return max(self.measured, FLOOR) / self.rho

    @property
    def family(self) -> str:
        return re.sub(r"^blk\.\d+\.|\.weight$", "", self.name)


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(
            folder=options.bin,
            model=options.model,
            imatrix=options.imatrix,
            scratch=Path(scratch),
            chunks=options.chunks,
            n_ctx=options.n_ctx,
            threads=options.threads,
        )
        tensors = _measured(bench, options)
    if options.save:
        given = {each.name: each.alpha for each in tensors}
        options.save.write_text(json.dumps({"tensors": given}, indent=1), encoding="utf-8")
    _report(tensors)
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="prior_experiment",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--bin", type=Path, required=True, help="folder of the patched tools")
    parser.add_argument("--model", type=Path, required=True, help="the BF16 GGUF")
    parser.add_argument("--imatrix", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--type", default="iq3_s")
    parser.add_argument("--chunks", type=int, default=40)
    parser.add_argument("--n-ctx", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save", type=Path, help="the sensitivities, for --tensor-weights")
    return parser.parse_args(arguments)


def _measured(bench: Bench, options: argparse.Namespace) -> list[Tensor]:
    base = bench.base(options.text)
    found = []
    for tensor in _planned(bench, options.type):
        rho = next(each["rho"] for each in tensor["curve"] if each["type"] == options.type)
        alone = _alone(bench, tensor["name"], options.type)
        measured = Tensor(
            name=tensor["name"],
            prior=tensor["alpha"],
            rho=rho,
            measured=bench.mean_kld(alone, base),
        )
        found.append(measured)
        _say(f"{measured.name}: KLD {measured.measured:.6f}, rho {rho:.3e}, {_alphas(measured)}")
    return found


def _planned(bench: Bench, wanted: str) -> list[Mapping[str, Any]]:
    """The plan's tensors, with rho of the wanted type measured for all of them."""
    saved = bench.scratch / "plan.json"
    asked = ("--type-set", wanted, "--measure-all", "--plan-only", "--plan-file", str(saved))
    bench.target(8.0, *asked)
    plan = json.loads(saved.read_text(encoding="utf-8"))
    return [tensor for tensor in plan["tensors"] if tensor["status"] == "chosen"]


def _alone(bench: Bench, name: str, wanted: str) -> Path:
    out = bench.scratch / "alone.gguf"
    pattern = "^" + name.replace(".", r"\.") + "$"
    pins = ("--tensor-type", f"{pattern}={wanted}", *LEFT_ALONE)
    imatrix = ("--imatrix", str(bench.imatrix))
    bench.run("llama-quantize", *imatrix, *pins, str(bench.model), str(out), "Q4_K_M", "1")
    return out


def _report(tensors: Sequence[Tensor]) -> None:
    priors = [each.prior for each in tensors]
    rank = rank_correlation(priors, [each.alpha for each in tensors])
    ratios = {each.name: math.log(each.alpha / each.prior) for each in tensors}
    middle = statistics.median(ratios.values())
    spread = statistics.pstdev(ratios.values())
    _say(f"{len(tensors)} tensors: rank correlation {rank:.3f}")
    _say(f"standard deviation of ln(alpha/prior) {spread:.3f}")
    for family in sorted({each.family for each in tensors}):
        apart = [ratios[each.name] - middle for each in tensors if each.family == family]
        factor = math.exp(statistics.fmean(apart))
        _say(f"{family}: {len(apart)} tensors, alpha over prior {factor:.2f} times the median")


def _alphas(tensor: Tensor) -> str:
    return f"alpha {tensor.alpha:.3e} measured, {tensor.prior:.3e} prior"


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
