"""What sizes can reach."""

from __future__ import annotations

import itertools

import pytest

from llamacpp_pipeline.allocate.frontier import (
    Option,
    best_within,
    frontier,
    hull,
    least_at,
    mix_at,
    smallest_within,
)


def option(n_bytes: int, divergence: float) -> Option:
    return Option(type=f"t{n_bytes}", n_bytes=n_bytes, divergence=divergence)


FEW = [option(100, 8.0), option(200, 3.0), option(300, 2.9), option(400, 1.0), option(500, 1.5)]
MANY = [option(1000, 4.0), option(2000, 1.0), option(3000, 0.0)]
TENSORS = {"few": FEW, "many": MANY}


def test_the_hull_leaves_out_what_no_price_would_choose() -> None:
    assert [o.n_bytes for o in hull(FEW)] == [100, 200, 400]
    assert hull([option(5, 1.0)]) == (option(5, 1.0),)
    with pytest.raises(ValueError, match="at least one"):
        hull([])


def test_no_mix_beats_a_corner_of_the_frontier() -> None:
    corners = frontier(TENSORS)
    every = [
        (sum(o.n_bytes for o in mix), sum(o.divergence for o in mix))
        for mix in itertools.product(*TENSORS.values())
    ]
    for corner in corners:
        assert not any(
            size <= corner.n_bytes and d < corner.divergence - 1e-12 for size, d in every
        )
    assert (corners[0].n_bytes, corners[0].divergence) == (1100, 12.0)
    assert (corners[-1].n_bytes, corners[-1].divergence) == (3400, 1.0)
    gains = [corner.gain_per_byte or 0 for corner in corners[1:]]
    assert gains == sorted(gains, reverse=True)


def test_a_size_or_a_divergence_picks_a_corner() -> None:
    corners = frontier(TENSORS)
    assert best_within(corners, 1099) is None
    assert best_within(corners, 1250) == corners[1]
    assert smallest_within(corners, 7.0) == corners[1]
    assert smallest_within(corners, 0.5) is None
    assert mix_at(TENSORS, corners[:2]) == {"few": "t200", "many": "t1000"}
    assert mix_at(TENSORS, corners) == {"few": "t400", "many": "t3000"}


def test_what_no_mix_goes_below_falls_evenly_between_corners() -> None:
    options = {
        "a": (
            Option(type="small", n_bytes=10, divergence=1.0),
            Option(type="large", n_bytes=20, divergence=0.2),
        ),
        "b": (Option(type="only", n_bytes=5, divergence=0.1),),
    }
    corners = frontier(options)
    assert least_at(corners, 14) is None
    assert least_at(corners, 15) == pytest.approx(1.1)
    assert least_at(corners, 20) == pytest.approx(0.7)
    assert least_at(corners, 25) == pytest.approx(0.3)
    assert least_at(corners, 1000) == pytest.approx(0.3)
