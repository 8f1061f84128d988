"""What each part of measuring sensitivities brings: the same mixes with that part changed.

    python -m tests.bench.sensitivity_ablations --bin BIN --models FOLDER --scratch FOLDER \\
        [--names demo dense moe] [--only NAME ...] [--mixes refined=FOLDER]

Probes every tensor at two types on 32 chunks of the demo's probe text and at three more on 16;
what fewer chunks or types would have said is taken from that. Bands, and another probe text, are
measured besides. Each set of sensitivities plans the sizes of the standard mixes, and the mixes are
measured on the demo's evaluation part, on which nothing is chosen. Prints, for every model and over
all of them, the geometric mean over the sizes of mean KLD (with its error over chunks) and of
99.9 % KLD, as ratios to those of the default. docs/allocation.md holds the table.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from llamacpp_pipeline.stages.curves import Curves
from llamacpp_pipeline.stages.probe_lines import Measurement, read_measurements
from llamacpp_pipeline.stages.sensitivity import computed, weights
from llamacpp_pipeline.units import Estimate
from tests.bench.sensitivity_mixes import (
    Bench,
    Types,
    add_arguments,
    benches,
    demo_file,
    evaluation_files,
)
from tests.bench.sensitivity_origins import Mixes, added, planned, points_on, preset_mixes
from tests.bench.sensitivity_points import Point, geometric_mean, row, shown

PAIR = ("iq3_s", "q5_K")
MORE = ("iq2_s", "iq4_xs", "q6_K")
DEFAULT = "IQ3_S and Q5_K alone, 16 chunks"
Found = Sequence[Measurement]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is measured of a model, from which sensitivities are made in several ways."""

    bench: Bench
    options: argparse.Namespace

    @cached_property
    def pair(self) -> Found:
        """The two types of the default, 32 chunks."""
        return probed(self.bench, self.options, 32, *PAIR)

    @cached_property
    def more(self) -> Found:
        """Three others, 16 chunks."""
        return probed(self.bench, self.options, 16, *MORE)

    @cached_property
    def calibration(self) -> Found:
        """The default on that part in place of the probe text."""
        return probed(self.bench, self.options, 16, *PAIR, part="calibration")

    def bands(self, n: int) -> Found:
        """The tensors of a role in n ranges of layers together."""
        return probed(self.bench, self.options, 16, *PAIR, bands=n)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    add_arguments(parser)
    parser.add_argument("--only", nargs="+", choices=list(ABLATIONS), help="and the default")
    parser.set_defaults(chunks=40)
    options = parser.parse_args()
    everywhere: list[Point] = []
    for bench in benches(options):
        points = points_of(bench, options)
        print(f"\n{bench.name}, {points[0].text}:\n\n{table(points)}", flush=True)
        everywhere += points
    print(f"\nall:\n\n{table(everywhere)}")


def points_of(bench: Bench, options: argparse.Namespace) -> list[Point]:
    """Of one model, with all ablations."""
    measured = Measured(bench=bench, options=options)
    presets = preset_mixes(bench, options.ftypes)
    mixes: dict[str, Mapping[str, Types]] = {"preset": presets, "prior": planned(bench, presets)}
    for name in dict.fromkeys([DEFAULT, *(options.only or ABLATIONS)]):
        file = bench.folder / "ablation.json"
        file.write_text(ABLATIONS[name](measured), encoding="utf-8")
        mixes[name] = planned(bench, presets, "--tensor-weights", file)
    every: Mixes = {**mixes, **added(bench, options)}
    text = evaluation_files(options)[0]
    return points_on(bench, text, every, chunks=options.chunks)


def probed(
    bench: Bench,
    options: argparse.Namespace,
    chunks: int,
    *types: str,
    bands: int | None = None,
    part: str = "probe",
) -> Found:
    """Tensors alone, or in bands, on a part of the demo text."""
    results = bench.folder / f"{part}-{chunks}-{'-'.join(types)}{bands or ''}.jsonl"
    text = demo_file(options, "probe" if part == "probe" else "calibration")
    more = () if bands is None else ("--bands", str(bands))
    bench.probe(text, results, "--types", ",".join(types), *more, chunks=chunks)
    return read_measurements(results)


def cut(found: Found, *types: str, chunks: int = 16) -> Found:
    """What a run with these types and so many chunks would have measured; the floor first."""
    kept = [each for each in found if {*each.tensors.values()} <= {*types}]
    n_types = len({kind for each in found for kind in each.tensors.values()})
    if (len(kept) - 1) * n_types != (len(found) - 1) * len(types):
        raise SystemExit(f"{types}: {len(kept)} of {len(found)} measurements are of these types")
    return [
        each.model_copy(update={"chunk_kld": each.chunk_kld[:chunks], "n_chunks": chunks})
        for each in kept
    ]


def tails(found: Found) -> Found:
    """With the 99.9 % KLD in place of the mean."""
    return [each.model_copy(update={"chunk_kld": (each.kld_p999,) * 2}) for each in found]


def without_noise(found: Found) -> Found:
    """As if no inputs had been rounded."""
    return [each.model_copy(update={"hold": "dequantized"}) for each in found]


def given(found: Found, curves: Curves) -> str:
    return weights(computed(found, curves))


def alphas(found: Found, curves: Curves) -> str:
    """Without a curve: rho times alpha at every type."""
    result = computed(found, curves)
    return json.dumps({"tensors": {t.name: t.alpha.value for t in result.tensors}})


def pair(measured: Measured, chunks: int = 16) -> Found:
    return cut(measured.pair, *PAIR, chunks=chunks)


def some(measured: Measured, *types: str) -> Found:
    """Of the five types, on the same 16 chunks."""
    return cut([*pair(measured), *measured.more[1:]], *types)


ABLATIONS: Mapping[str, Callable[[Measured], str]] = {
    DEFAULT: lambda m: given(pair(m), m.bench.curves),
    "4 chunks": lambda m: given(pair(m, 4), m.bench.curves),
    "8 chunks": lambda m: given(pair(m, 8), m.bench.curves),
    "32 chunks": lambda m: given(pair(m, 32), m.bench.curves),
    "IQ3_S": lambda m: given(some(m, "iq3_s"), m.bench.curves),
    "IQ2_S and Q5_K": lambda m: given(some(m, "iq2_s", "q5_K"), m.bench.curves),
    "IQ2_S, IQ4_XS, Q6_K": lambda m: given(some(m, *MORE), m.bench.curves),
    "all five types": lambda m: given(some(m, *PAIR, *MORE), m.bench.curves),
    "four bands": lambda m: given(m.bands(4), m.bench.curves),
    "two bands": lambda m: given(m.bands(2), m.bench.curves),
    "99.9 % KLD, 32 chunks": lambda m: given(tails(pair(m, 32)), m.bench.curves),
    "calibration text as probe text": lambda m: given(m.calibration, m.bench.curves),
    "errors of all types on the curves": lambda m: given(pair(m), m.bench.wide_curves),
    "no rounded inputs (e = 0)": lambda m: given(without_noise(pair(m)), m.bench.curves),
    "alpha alone, no curve": lambda m: alphas(pair(m), m.bench.curves),
    "all alphas equal": lambda m: json.dumps(
        {"tensors": dict.fromkeys(m.bench.curves.by_name, 1.0)}
    ),
}


def table(points: Sequence[Point]) -> str:
    """A row for each ablation: geometric means over the points, as ratios to the default."""
    lines = [row(["", "mean KLD", "99.9 % KLD"]), row(["---"] * 3)]
    for name in points[0].mixes:
        tail = geometric_mean(p.mixes[name].kld_p999 / p.mixes[DEFAULT].kld_p999 for p in points)
        lines.append(row([name, shown(mean_ratio(points, name)), f"{tail:.3f}"]))
    return "\n".join(lines)


def mean_ratio(points: Sequence[Point], of: str) -> Estimate:
    """Geometric, over the points; its error to first order, sizes sharing their chunks."""
    value = geometric_mean(point.ratio(of, DEFAULT).value for point in points)
    square = 0.0
    for model in {point.model for point in points}:
        here = [point for point in points if point.model == model]
        n = here[0].mixes[of].n_chunks
        moved = [sum(deviation(point, of, at) for point in here) / len(points) for at in range(n)]
        square += math.fsum(each**2 for each in moved) / n / (n - 1)
    return Estimate(value=value, stderr=value * math.sqrt(square))


def deviation(point: Point, of: str, chunk: int) -> float:
    """Of a chunk's logarithm of the ratio from the whole's, to first order."""
    ours, theirs = point.mixes[of], point.mixes[DEFAULT]
    return ours.chunk_kld[chunk] / ours.kld - theirs.chunk_kld[chunk] / theirs.kld


if __name__ == "__main__":
    main()
