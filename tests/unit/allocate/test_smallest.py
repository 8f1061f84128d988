"""The smallest mix of a divergence, against trying every mix."""

from __future__ import annotations

import itertools
import random

import pytest

from llamacpp_pipeline.allocate import smallest
from llamacpp_pipeline.allocate.frontier import Option, frontier, smallest_within
from llamacpp_pipeline.allocate.smallest import Mix, reachable, smallest_mix

Items = dict[str, list[Option]]


def option(n_bytes: int, divergence: float) -> Option:
    return Option(type=f"t{n_bytes}", n_bytes=n_bytes, divergence=divergence)


def random_items(seed: int, *, n_items: int = 6) -> Items:
    draw = random.Random(seed)  # noqa: S311
    found: Items = {}
    for at in range(n_items):
        scale, unit = draw.lognormvariate(0, 1.5), draw.choice([10, 17, 64])
        found[f"i{at}"] = [
            option(bits * unit, scale * 4.0**-bits * draw.uniform(0.7, 1.4)) for bits in range(2, 7)
        ]
    return found


def every_mix(items: Items) -> list[tuple[int, float]]:
    return [
        (sum(o.n_bytes for o in mix), sum(o.divergence for o in mix))
        for mix in itertools.product(*items.values())
    ]


def found_within(items: Items, divergence: float) -> Mix:
    found = smallest_mix(items, divergence)
    assert found is not None
    return found


@pytest.mark.parametrize("seed", range(8))
def test_no_mix_of_the_divergence_is_smaller(seed: int) -> None:
    items = random_items(seed)
    mixes, ends = every_mix(items), reachable(items)
    for share in (0.001, 0.01, 0.1, 0.5):
        asked = ends.least + share * (ends.most - ends.least)
        found = found_within(items, asked)
        assert found.n_bytes == min(n for n, d in mixes if d <= asked)
        alike = [d for n, d in mixes if n == found.n_bytes]
        assert min(abs(d - found.divergence) for d in alike) < 1e-12
        assert found.divergence <= asked * (1 + 1e-9)
        assert found.bound <= found.n_bytes


def test_it_finds_mixes_that_no_corner_is() -> None:
    smaller = 0
    for seed in range(8):
        items = random_items(seed)
        for share in (0.005, 0.02, 0.08, 0.3):
            asked = share * reachable(items).most
            corner = smallest_within(frontier(items), asked)
            assert corner is not None
            smaller += found_within(items, asked).n_bytes < corner.n_bytes
    assert smaller >= 8  # of 32


def test_the_ends_are_reachable_and_nothing_beyond() -> None:
    items = random_items(1)
    ends = reachable(items)
    assert smallest_mix(items, ends.least * 0.99) is None
    assert found_within(items, ends.least).divergence == pytest.approx(ends.least)
    least = min(n for n, _ in every_mix(items))
    assert found_within(items, ends.most * 2) == Mix(
        n_bytes=least, divergence=ends.most, bound=least
    )


def test_too_many_partial_mixes_leave_what_a_corner_has_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    items = random_items(3, n_items=9)
    asked = 0.02 * reachable(items).most
    exact = found_within(items, asked)
    monkeypatch.setattr(smallest, "MOST_STATES", 2)
    found = found_within(items, asked)
    corner = smallest_within(frontier(items), asked)
    assert corner is not None
    assert exact.n_bytes <= found.n_bytes <= corner.n_bytes
    assert found.divergence <= asked * (1 + 1e-9)
