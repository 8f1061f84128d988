"""What probing all tensors costs, against the evaluation of the standard mixes.

    python -m tests.bench.sensitivity_cost --bin BIN --models FOLDER --scratch FOLDER \\
        [--names demo dense moe]

Probes every tensor from nothing (IQ3_S and Q5_K, 16 chunks of the demo's probe text), then
measures the reference and the file of each standard mix with llama-perplexity on all of the demo's
evaluation part. Prints wall and processor time of each, and the share of processor time. For a
quiet machine: the load of the last minute is printed first.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.sensitivity_mixes import Bench, add_arguments, benches, demo_file
from tests.bench.sensitivity_points import row

PROBE_CHUNKS = 16
TYPES = "iq3_s,q5_K"


@dataclass(frozen=True, kw_only=True)
class Cost:
    wall: float  # seconds
    processor: float  # seconds, of the tools

    def __str__(self) -> str:
        return f"{self.wall:.1f} s ({self.processor:.1f} s)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    add_arguments(parser)
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.2f}; wall time (processor time)")
    print(row(["model", "probing all tensors", "reference", "standard mixes", "share"]))
    for bench in benches(options):
        for ftype in options.ftypes:
            bench.preset_file(ftype)
        with tempfile.TemporaryDirectory(dir=bench.folder) as scratch:
            print(row(costs(bench, options, Path(scratch))), flush=True)


def costs(bench: Bench, options: argparse.Namespace, scratch: Path) -> list[str]:
    probe, text = demo_file(options, "probe"), demo_file(options, "evaluation")
    results = scratch / "probe.jsonl"
    types = ("--types", TYPES)
    probing = timed(lambda: bench.probe(probe, results, *types, chunks=PROBE_CHUNKS))
    base = scratch / "base"
    flags = ("--kl-divergence-base", base)
    reference = timed(lambda: perplexity(bench, bench.model, text, *flags))
    files = [bench.preset_file(ftype) for ftype in options.ftypes]
    mixes = timed(lambda: divergences(bench, files, text, base))
    share = probing.processor / (reference.processor + mixes.processor)
    return [bench.name, str(probing), str(reference), str(mixes), f"{share:.2f}"]


def timed(work: Callable[[], object]) -> Cost:
    before, start = os.times(), time.monotonic()
    work()
    after = os.times()
    user, system = (
        getattr(after, n) - getattr(before, n) for n in ("children_user", "children_system")
    )
    return Cost(wall=time.monotonic() - start, processor=user + system)


def perplexity(bench: Bench, model: Path, text: Path, *more: str | Path) -> str:
    """Of the whole text; what the tool said."""
    return bench.run(
        bench.binaries / "llama-perplexity",
        *("-m", model, "-f", text, "--no-escape", "-c", str(bench.n_ctx)),
        *("-t", str(bench.threads), "--fit", "off", *more),
    )


def divergences(bench: Bench, files: Sequence[Path], text: Path, base: Path) -> None:
    for file in files:
        said = perplexity(bench, file, text, "--kl-divergence-base", base, "--kl-divergence")
        if "Mean    KLD" not in said:
            raise SystemExit(f"llama-perplexity measured nothing:\n{said[-2000:]}")


if __name__ == "__main__":
    main()
