"""What measured sensitivities are worth against the prior and the standard mixes.

    python -m tests.bench.sensitivity_experiment --bin BIN --model REFERENCE.gguf \\
        --imatrix I.gguf --probe PROBE.txt --text FILE [--text FILE] [--types iq3_s q5_K]

Probes every tensor on one text, plans the sizes of the standard mixes with the prior and with
what was measured, and measures all mixes on other texts: with llama-kld-probe, which puts whole
mixes into the model it has loaded, so that no file is written. Prints mean KLD, the ratios of
measured sensitivities to preset and to prior, and what the sum of single divergences predicted.
None of the texts may be the probe text or the imatrix's. docs/allocation.md holds the tables.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf

from llamacpp_pipeline.stages.curves import MEASURED, read_curves
from llamacpp_pipeline.stages.probe_lines import read_measurements
from llamacpp_pipeline.stages.sensitivity import computed, weights

FTYPES = ("Q2_K", "IQ3_M", "Q3_K_M", "IQ4_XS", "Q4_K_M", "Q5_K_M")
Types = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The tools, the model, and a folder whose files are kept and used again."""

    binaries: Path
    model: Path
    imatrix: Path
    folder: Path
    n_ctx: int
    threads: int

    def run(self, tool: str, *arguments: str | Path) -> None:
        done = subprocess.run([self.binaries / tool, *arguments], capture_output=True, check=False)
        if done.returncode:
            output = (done.stdout + done.stderr).decode("utf-8", errors="replace")
            raise SystemExit(f"{tool} failed:\n{output[-3000:]}")

    def probe(self, text: Path, results: Path, *more: str | Path, chunks: int) -> None:
        self.run(
            "llama-kld-probe",
            *("-m", self.model, "-f", text, "--imatrix", self.imatrix, "--results", results),
            *("-c", str(self.n_ctx), "--chunks", str(chunks), "-t", str(self.threads)),
            *("--fit", "off", "--hold", "native", *more),
        )

    def preset(self, ftype: str) -> Types:
        """The types of a standard mix."""
        made = self.folder / f"{ftype}.gguf"
        if not made.is_file():
            flags = ("--imatrix", self.imatrix, self.model, made, ftype, str(self.threads))
            self.run("llama-quantize", *flags)
        return types_in(made)

    def planned(self, bpw: float, *more: str | Path) -> Types:
        """The types that llama-quantize chooses for a size."""
        plan = self.folder / "plan.json"
        self.run(
            "llama-quantize",
            *("--imatrix", self.imatrix, "--target-bpw", repr(bpw), "--plan-only"),
            *("--plan-file", plan, "--state-file", self.folder / "state", *more),
            *(self.model, str(self.threads)),
        )
        found = json.loads(plan.read_text(encoding="utf-8"))
        kept = {t["name"]: t["type"] for t in found["tensors"] if t["status"] != "kept"}
        return {name: kind for name, kind in kept.items() if kind not in {"f16", "bf16", "f32"}}


def types_in(file: Path) -> Types:
    """Of the tensors that are quantized."""
    kinds = {t.name: t.tensor_type.name.lower() for t in gguf.GGUFReader(file).tensors}
    return {name: kind for name, kind in kinds.items() if kind not in {"f32", "f16", "bf16"}}


def bpw_of(file: Path) -> float:
    tensors = gguf.GGUFReader(file).tensors
    return float(8 * sum(t.n_bytes for t in tensors) / sum(t.n_elements for t in tensors))


def measured_weights(bench: Bench, options: argparse.Namespace) -> Path:
    """The file for --tensor-weights, from measurements on the probe text."""
    results, curves = bench.folder / "probe.jsonl", bench.folder / "curves.json"
    bench.probe(
        options.probe, results, "--types", ",".join(options.types), chunks=options.probe_chunks
    )
    types = ("--type-set", ",".join(MEASURED))
    flags = ("--measure-all", "--plan-only", "--plan-file", curves, *types)
    state = ("--state-file", bench.folder / "state")
    given = ("--imatrix", bench.imatrix, "--target-bpw", "16.0", *flags, *state)
    bench.run("llama-quantize", *given, bench.model, str(bench.threads))
    result = computed(read_measurements(results), read_curves(curves))
    print(f"probed in {result.seconds:.0f} s; rank correlation with the prior", end=" ")
    print(f"{result.prior_rank_correlation:.3f}")
    made = bench.folder / "weights.json"
    made.write_text(weights(result), encoding="utf-8")
    return made


def measure(bench: Bench, text: Path, mixes: Sequence[Types], chunks: int) -> list[float]:
    """Mean KLD of each mix."""
    plan, results = bench.folder / "mixes.jsonl", bench.folder / f"{text.stem}.jsonl"
    lines = [json.dumps({"id": str(at), "tensors": mix}) for at, mix in enumerate(mixes)]
    plan.write_text("\n".join(lines) + "\n", encoding="utf-8")
    results.unlink(missing_ok=True)  # keys do not tell which mix asked first
    bench.probe(text, results, "--plan", plan, chunks=chunks)
    found = {json.dumps(dict(sorted(m.tensors.items()))): m.kld for m in read_measurements(results)}
    return [found[json.dumps({k: canonical(v) for k, v in sorted(m.items())})] for m in mixes]


def canonical(kind: str) -> str:
    """A type as ggml writes it: q4_k is q4_K there."""
    return kind[:-1] + "K" if kind.endswith("_k") else kind


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    for name in ("bin", "model", "imatrix", "probe", "scratch"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--text", type=Path, action="append", required=True)
    parser.add_argument("--types", nargs="+", default=["iq3_s", "q5_K"])
    parser.add_argument("--ftypes", nargs="+", default=FTYPES)
    parser.add_argument("--probe-chunks", type=int, default=16)
    parser.add_argument("--chunks", type=int, default=40)
    parser.add_argument("--n-ctx", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    options.scratch.mkdir(parents=True, exist_ok=True)
    bench = Bench(
        binaries=options.bin,
        model=options.model,
        imatrix=options.imatrix,
        folder=options.scratch,
        n_ctx=options.n_ctx,
        threads=options.threads,
    )
    compare(bench, options)


def compare(bench: Bench, options: argparse.Namespace) -> None:
    """The table."""
    given = measured_weights(bench, options)
    presets = [bench.preset(ftype) for ftype in options.ftypes]
    sizes = [bpw_of(bench.folder / f"{ftype}.gguf") + 1e-7 for ftype in options.ftypes]
    prior = [bench.planned(size) for size in sizes]
    measured = [bench.planned(size, "--tensor-weights", given) for size in sizes]
    for text in options.text:
        klds = measure(bench, text, [*presets, *prior, *measured], options.chunks)
        n = len(presets)
        print(f"\n{text.stem}: | mix | bpw | preset | prior | measured | to preset | to prior |")
        rows = list(
            zip(options.ftypes, sizes, klds[:n], klds[n : 2 * n], klds[2 * n :], strict=True)
        )
        for ftype, bpw, preset, by_prior, ours in rows:
            print(
                f"| {ftype} | {bpw:.4f} | {preset:.6f} | {by_prior:.6f} | {ours:.6f} |"
                f" {ours / preset:.3f} | {ours / by_prior:.3f} |"
            )
        for against, at in (("preset", 2), ("prior", 3)):
            logs = [math.log(row[4] / row[at]) for row in rows]
            print(f"geometric mean to {against}: {math.exp(sum(logs) / n):.3f}", end="; ")
        print()


if __name__ == "__main__":
    main()
