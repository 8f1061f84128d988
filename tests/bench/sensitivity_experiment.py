"""What measured sensitivities are worth against the prior and the standard mixes.

    python -m tests.bench.sensitivity_experiment --bin BIN --models FOLDER --scratch FOLDER \\
        --wikitext wiki.test.raw [--names demo dense moe] [--mixes refined=FOLDER]

Probes every tensor of each model on the demo's probe text, plans the sizes of the standard mixes
with the prior and with what was measured, and measures all mixes on the evaluation texts. Prints
mean KLD and its ratios with their errors, geometric means, the points that are worse than what
they are compared with, and how well the sum of single divergences says what a mix measures.
`--mixes NAME=FOLDER` adds mixes that were made elsewhere: FOLDER/MODEL/FTYPE.types, of the form
of --tensor-type-file. docs/allocation.md holds the tables.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Mapping, Sequence

from llamacpp_pipeline.stages.probe_lines import Measurement, read_measurements
from llamacpp_pipeline.stages.sensitivity import SensitivityResult, computed, weights
from tests.bench.sensitivity_mixes import Bench, add_arguments, benches, demo_file, evaluation_files
from tests.bench.sensitivity_origins import Mixes, added, planned, points_on, preset_mixes
from tests.bench.sensitivity_points import Point, mean, row, summary, table

MEASURED = "measured"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    add_arguments(parser)
    parser.add_argument("--types", nargs="+", default=["iq3_s", "q5_K"])
    parser.add_argument("--probe-chunks", type=int, default=16)
    options = parser.parse_args()
    points = [point for bench in benches(options) for point in compared(bench, options)]
    for of, to in pairs(points[0].mixes):
        for model in options.names:
            here = [point for point in points if point.model == model]
            print(f"\n{model}: {of} to {to}: geometric mean {mean(here, of=of, to=to):.3f}", end="")
        print(f"\n{summary(points, of=of, to=to)}")


def pairs(origins: Iterable[str]) -> list[tuple[str, str]]:
    """What is compared with what: measured ones and those of --mixes, with the first two."""
    preset, prior, *ours = origins
    return [(of, to) for of in ours for to in (preset, prior)]


def compared(bench: Bench, options: argparse.Namespace) -> list[Point]:
    """All points of one model, printed."""
    measurements = probed(bench, options)
    result = computed(measurements, bench.curves)
    print(
        f"\n## {bench.name}: {len(result.tensors)} tensors probed in {result.seconds:.0f} s,",
        end="",
    )
    print(f" rank correlation with the prior {result.prior_rank_correlation or math.nan:.3f}")
    given = bench.folder / "weights.json"
    given.write_text(weights(result), encoding="utf-8")
    presets = preset_mixes(bench, options.ftypes)
    mixes: Mixes = {
        "preset": presets,
        "prior": planned(bench, presets),
        MEASURED: planned(bench, presets, "--tensor-weights", given),
        **added(bench, options),
    }
    texts = evaluation_files(options)
    points = [p for t in texts for p in points_on(bench, t, mixes, chunks=options.chunks)]
    print(f"\n{table(points, pairs(mixes))}")
    same = points_on(bench, demo_file(options, "probe"), mixes, chunks=options.probe_chunks)
    print(f"\n{bench.name}: sum of single divergences over the KLD of the mix, by size\n")
    print(row(["text", "mix", *options.ftypes]))
    print(additivity(computed(measurements, bench.wide_curves), [*same, *points]))
    return points


def probed(bench: Bench, options: argparse.Namespace) -> Sequence[Measurement]:
    """Every tensor alone, on the probe text."""
    results = bench.folder / f"probe-{options.probe_chunks}-{'-'.join(options.types)}.jsonl"
    probe, types = demo_file(options, "probe"), ",".join(options.types)
    bench.probe(probe, results, "--types", types, chunks=options.probe_chunks)
    return read_measurements(results)


def additivity(result: SensitivityResult, points: Sequence[Point]) -> str:
    """The sum of a mix's single divergences over what it measures, for each text and origin."""
    curves = {t.name: {at.type: at.divergence for at in t.curve} for t in result.tensors}
    lines = []
    for text in dict.fromkeys(point.text for point in points):
        here = [point for point in points if point.text == text]
        for name in here[0].mixes:
            sums = [summed(curves, point.mixes[name]) for point in here]
            over = [s and s / p.mixes[name].kld for s, p in zip(sums, here, strict=True)]
            lines.append(row([text, name, *(f"{at:.2f}" if at else "-" for at in over)]))
    return "\n".join(lines)


def summed(curves: Mapping[str, Mapping[str, float]], mix: Measurement) -> float | None:
    """Of the types that have a divergence; None where one has none."""
    found = [curves.get(name, {}).get(kind) for name, kind in mix.tensors.items()]
    return None if None in found else math.fsum(value for value in found if value is not None)


if __name__ == "__main__":
    main()
