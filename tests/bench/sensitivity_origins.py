"""Where mixes of one size come from: a standard mix, llama-quantize's planner, or files."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench.sensitivity_mixes import SLACK, Bench, Types, types_in
from tests.bench.sensitivity_points import Point

Mixes = Mapping[str, Mapping[str, Types]]  # by origin and size


def preset_mixes(bench: Bench, ftypes: Sequence[str]) -> Mapping[str, Types]:
    """The standard ones, whose sizes the others must keep to."""
    return {ftype: types_in(bench.preset_file(ftype)) for ftype in ftypes}


def planned(bench: Bench, presets: Mapping[str, Types], *flags: str | Path) -> Mapping[str, Types]:
    """What llama-quantize plans for the sizes of the standard mixes."""
    return {size: bench.planned(bench.bpw(mix) + SLACK, *flags) for size, mix in presets.items()}


def added(bench: Bench, options: argparse.Namespace) -> Mixes:
    """Those of --mixes."""
    named = (spec.partition("=") for spec in options.mixes)
    return {
        name: bench.mixes_in(Path(folder) / bench.name, options.ftypes) for name, _, folder in named
    }


def points_on(bench: Bench, text: Path, mixes: Mixes, *, chunks: int) -> list[Point]:
    """A point for each size; all mixes are measured in one run.

    Raises:
        SystemExit: where a mix is larger than the standard one.

    """
    presets = mixes["preset"]
    for name, made in mixes.items():
        refuse_larger(bench, name, made, presets)
    flat = [mix for made in mixes.values() for mix in made.values()]
    found = iter(bench.measure(text, flat, chunks))
    by_origin = {name: {size: next(found) for size in made} for name, made in mixes.items()}
    return [
        Point(
            model=bench.name,
            text=text.stem,
            size=size,
            bpw=bench.bpw(preset),
            mixes={name: measured[size] for name, measured in by_origin.items()},
        )
        for size, preset in presets.items()
    ]


def refuse_larger(
    bench: Bench, name: str, made: Mapping[str, Types], presets: Mapping[str, Types]
) -> None:
    for size, mix in made.items():
        have, allowed = bench.bpw(mix), bench.bpw(presets[size]) + SLACK
        if have > allowed:
            raise SystemExit(f"{bench.name}, {name}, {size}: {have} bpw are more than {allowed}")
