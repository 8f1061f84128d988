"""Are the types that --target-bpw chooses better than a standard mix of the same size?

    python -m tests.bench.allocation_experiment --bin BIN --model F16.gguf --imatrix I.gguf \\
        --text FILE [--text FILE] [--chunks 40] [--tensor-weights W.json]
    python -m tests.bench.allocation_experiment ... --random 20 --bpw 4.5

The first form quantizes every standard mix and, with the same imatrix, a plan that takes no more
bytes, and prints the mean KLD of both on every text. The second makes allocations of equal size
at random, and prints the rank correlation of what the objective predicts with what is measured.
None of the texts may be the one that the imatrix was made from, nor one that anything was tuned
on. docs/target-bpw.md holds the tables of the last runs.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf

FTYPES = ("Q2_K", "IQ2_M", "Q3_K_M", "IQ3_M", "IQ4_XS", "Q4_K_M", "Q5_K_M", "Q6_K")
MEAN_KLD = re.compile(r"Mean +KLD: +(-?[\d.]+) ± +([\d.]+)")
ATTEMPTS = 5  # upstream's tools can lose their last lines, and exit 0
SPREAD = 2.0  # of the logarithm of the random sensitivities


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The tools, the model and where the files go."""

    folder: Path
    model: Path
    imatrix: Path
    scratch: Path
    chunks: int
    n_ctx: int
    threads: int

    def run(self, tool: str, *arguments: str) -> str:
        done = subprocess.run(
            [str(self.folder / tool), *arguments], capture_output=True, check=False
        )
        output = (done.stdout + done.stderr).decode("utf-8", errors="replace")
        if done.returncode:
            raise SystemExit(f"{tool} {' '.join(arguments)} failed:\n{output[-3000:]}")
        return output

    def base(self, text: Path) -> Path:
        """The reference's log-probabilities on `text`."""
        saved = self.scratch / f"{text.stem}.kld"
        self.run(
            "llama-perplexity",
            *("--model", str(self.model), "--file", str(text), "--chunks", str(self.chunks)),
            *("--kl-divergence-base", str(saved), *self._how()),
        )
        return saved

    def mean_kld(self, model: Path, base: Path) -> float:
        output = ""
        for _ in range(ATTEMPTS):
            output = self.run(
                "llama-perplexity",
                *("--model", str(model), "--kl-divergence"),
                *("--kl-divergence-base", str(base), *self._how()),
            )
            if found := MEAN_KLD.search(output):
                return float(found[1])
        raise SystemExit(f"llama-perplexity printed no mean KLD for {model}:\n{output[-3000:]}")

    def preset(self, ftype: str) -> Path:
        out = self.scratch / f"{ftype}.gguf"
        self.run("llama-quantize", *self._imatrix(), str(self.model), str(out), ftype)
        return out

    def target(self, bpw: float, *options: str) -> Path:
        out = self.scratch / "target.gguf"
        state = ("--state-file", str(self.scratch / "measured.state"))
        wanted = ("--target-bpw", f"{bpw:.12g}", *state, *options)
        self.run("llama-quantize", *self._imatrix(), *wanted, str(self.model), str(out))
        return out

    def _imatrix(self) -> tuple[str, ...]:
        return ("--imatrix", str(self.imatrix))

    def _how(self) -> tuple[str, ...]:
        batch = ("--batch-size", "2048", "--threads", str(self.threads), "-fit", "off")
        return ("--ctx-size", str(self.n_ctx), *batch)


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(
            folder=options.bin,
            model=options.model,
            imatrix=options.imatrix,
            scratch=options.scratch or Path(temporary),
            chunks=options.chunks,
            n_ctx=options.n_ctx,
            threads=options.threads,
        )
        bench.scratch.mkdir(parents=True, exist_ok=True)
        bases = {text: bench.base(text) for text in options.text}
        weights = ("--tensor-weights", str(options.tensor_weights))
        extra = weights if options.tensor_weights else ()
        if options.random:
            return _random_allocations(bench, bases, options=options, extra=extra)
        return _against_presets(bench, bases, ftypes=options.ftypes, extra=extra)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="allocation_experiment",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--bin", type=Path, required=True, help="folder of the patched tools")
    parser.add_argument("--model", type=Path, required=True, help="the 16-bit or 32-bit GGUF")
    parser.add_argument("--imatrix", type=Path, required=True)
    parser.add_argument("--text", type=Path, action="append", required=True)
    parser.add_argument("--chunks", type=int, default=40)
    parser.add_argument("--n-ctx", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ftypes", nargs="+", default=FTYPES)
    parser.add_argument("--tensor-weights", type=Path, help="sensitivities instead of the prior")
    parser.add_argument("--random", type=int, default=0, help="this many random allocations")
    parser.add_argument("--bpw", type=float, default=4.5, help="of the random allocations")
    parser.add_argument("--scratch", type=Path, help="keeps the files here")
    return parser.parse_args(arguments)


def tensor_bpw(model: Path) -> float:
    """Bits of tensor data per weight, as llama-quantize counts them."""
    tensors = gguf.GGUFReader(model).tensors
    size = sum(int(tensor.n_bytes) for tensor in tensors)
    return 8 * size / sum(int(tensor.n_elements) for tensor in tensors)


def _against_presets(
    bench: Bench, bases: Mapping[Path, Path], *, ftypes: Sequence[str], extra: Sequence[str]
) -> int:
    ratios: dict[Path, list[float]] = {text: [] for text in bases}
    _say("| mix | bpw | ours | text | mix, mean KLD | ours, mean KLD | ratio |")
    _say("|---|---|---|---|---|---|---|")
    for ftype in ftypes:
        preset = bench.preset(ftype)
        bpw = tensor_bpw(preset)
        ours = bench.target(bpw, *extra)
        sizes = f"{bpw:.4f} | {tensor_bpw(ours):.4f}"
        for text, base in bases.items():
            theirs_kld, ours_kld = bench.mean_kld(preset, base), bench.mean_kld(ours, base)
            ratios[text].append(ours_kld / theirs_kld)
            figures = f"{theirs_kld:.6f} | {ours_kld:.6f} | {ratios[text][-1]:.3f}"
            _say(f"| {ftype} | {sizes} | {text.name} | {figures} |")
    for text, values in ratios.items():
        mean = math.exp(sum(map(math.log, values)) / len(values))
        _say(f"{text.name}: geometric mean of the ratios {mean:.3f}, worst {max(values):.3f}")
    return 0 if all(ratio < 1 for values in ratios.values() for ratio in values) else 1


def _random_allocations(
    bench: Bench, bases: Mapping[Path, Path], *, options: argparse.Namespace, extra: Sequence[str]
) -> int:
    curves = _curves(bench, options.bpw, extra)
    predicted: list[float] = []
    measured: dict[Path, list[float]] = {text: [] for text in bases}
    for number in range(options.random):
        chosen = bench.scratch / "random.json"
        weights = _random_weights(bench.scratch, curves, seed=number)
        given = ("--tensor-weights", str(weights))
        mixed = bench.target(options.bpw, *given, "--plan-file", str(chosen))
        plan = json.loads(chosen.read_text(encoding="utf-8"))
        tensors = [tensor for tensor in plan["tensors"] if tensor["name"] in curves]
        predicted.append(sum(curves[each["name"]][each["type"]] for each in tensors))
        for text, base in bases.items():
            measured[text].append(bench.mean_kld(mixed, base))
        _say(f"{number}: objective {predicted[-1]:.4e}, KLD {_last(measured)}")
    for text, values in measured.items():
        rho = rank_correlation(predicted, values)
        _say(f"{text.name}: rank correlation of objective and mean KLD {rho:.3f}")
    return 0


def _curves(bench: Bench, bpw: float, extra: Sequence[str]) -> dict[str, dict[str, float]]:
    """What every type of every tensor is charged in the objective, all of it measured."""
    saved = bench.scratch / "curves.json"
    asked = ("--measure-all", "--plan-only", "--plan-file", str(saved))
    bench.target(bpw, *extra, *asked)
    plan = json.loads(saved.read_text(encoding="utf-8"))
    return {
        tensor["name"]: {point["type"]: point["error"] for point in tensor["curve"]}
        for tensor in plan["tensors"]
        if tensor["status"] == "chosen"
    }


def _random_weights(scratch: Path, curves: Mapping[str, Mapping[str, float]], *, seed: int) -> Path:
    """Random sensitivities: solved for a size, they are a random allocation of that size."""
    draw = random.Random(seed)  # noqa: S311  # reproducible, not secret
    saved = scratch / "random-weights.json"
    weights = {name: math.exp(draw.gauss(0, SPREAD)) for name in sorted(curves)}
    saved.write_text(json.dumps({"tensors": weights}), encoding="utf-8")
    return saved


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's; values that are equal share their mean rank."""
    return statistics.correlation(_ranks(first), _ranks(second))


def _ranks(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    return [ordered.index(each) + (ordered.count(each) - 1) / 2 for each in values]


def _last(measured: Mapping[Path, Sequence[float]]) -> str:
    return ", ".join(f"{values[-1]:.6f} ({text.name})" for text, values in measured.items())


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
