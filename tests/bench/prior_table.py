"""What the built-in prior is worth against the standard mixes, and against an earlier build's.

    python -m tests.bench.prior_table --bin BIN [--before LLAMA_QUANTIZE] --models FOLDER \\
        --scratch FOLDER --wikitext wiki.test.raw --chunks 40 [--names demo dense moe]

Plans the sizes of the standard mixes with the prior and nothing measured, and measures all mixes
on texts that nothing was tuned on. docs/target-bpw.md has the tables.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from tests.bench.sensitivity_mixes import (
    Bench,
    absolute,
    add_arguments,
    benches,
    evaluation_files,
)
from tests.bench.sensitivity_origins import Mixes, planned, points_on, preset_mixes
from tests.bench.sensitivity_points import Point, summary, table

PRIOR = "prior"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    add_arguments(parser)
    parser.add_argument("--before", type=absolute, help="llama-quantize of an earlier build")
    options = parser.parse_args()
    points = [point for bench in benches(options) for point in compared(bench, options)]
    for to in [name for name in points[0].mixes if name != PRIOR]:
        print(f"\n{summary(points, of=PRIOR, to=to)}")


def compared(bench: Bench, options: argparse.Namespace) -> list[Point]:
    """All points of one model, printed."""
    presets = preset_mixes(bench, options.ftypes)
    mixes: Mixes = {"preset": presets, PRIOR: planned(bench, presets)}
    if options.before:
        earlier = planned(replace(bench, planner=options.before), presets)
        mixes = {"preset": presets, "before": earlier, PRIOR: mixes[PRIOR]}
    texts = evaluation_files(options)
    points = [p for t in texts for p in points_on(bench, t, mixes, chunks=options.chunks)]
    others = [(PRIOR, name) for name in mixes if name != PRIOR]
    print(f"\n{table(points, others)}", flush=True)
    return points


if __name__ == "__main__":
    main()
