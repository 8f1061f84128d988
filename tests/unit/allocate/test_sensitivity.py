"""Sensitivities from a few measurements."""

from __future__ import annotations

import math

import pytest

from llamacpp_pipeline.allocate.sensitivity import (
    Point,
    paired,
    rank_correlation,
    sensitivity,
)


def point(rho: float, divergence: float, stderr: float = 1e-6) -> Point:
    return Point(rho=rho, divergence=divergence, stderr=stderr)


def test_alpha_is_divergence_over_relative_error() -> None:
    found = sensitivity([point(0.02, 0.006)])
    assert found.alpha.value == pytest.approx(0.3)
    assert found.alpha.stderr == pytest.approx(0.3 * 0.2, rel=0.01)  # the scatter of types
    assert found.divergence(0.02) == pytest.approx(0.006)
    assert found.divergence(0.001) == pytest.approx(0.0003)
    assert found.divergence(0.0) == 0.0


def test_rounded_inputs_are_an_error_that_every_type_has() -> None:
    found = sensitivity([point(0.02, 0.006)], noise=0.001)
    assert found.alpha.value == pytest.approx(0.006 / 0.021)
    assert found.divergence(0.02) == pytest.approx(0.006)
    assert found.divergence(0.001) == pytest.approx(0.006 * 0.002 / 0.021)
    assert found.divergence(0.0) == 0.0  # kept as it is, nothing is rounded


def test_two_points_count_by_their_errors() -> None:
    noisy = sensitivity([point(0.02, 0.006), point(0.002, 0.0012, stderr=0.01)])
    assert noisy.alpha.value == pytest.approx(0.3, rel=1e-3)
    even = sensitivity([point(0.02, 0.006), point(0.002, 0.0012)])
    assert 0.3 < even.alpha.value < 0.6


def test_between_two_points_the_curve_is_straight_in_logarithms() -> None:
    found = sensitivity([point(0.02, 0.008), point(0.002, 0.0006)])
    middle = math.sqrt(0.02 * 0.002)
    assert found.divergence(middle) == pytest.approx(math.sqrt(0.008 * 0.0006))
    assert found.divergence(0.04) == pytest.approx(0.016)
    assert found.divergence(0.001) == pytest.approx(0.0003)


def test_points_that_contradict_each_other_are_averaged() -> None:
    falling = sensitivity([point(0.02, 0.0006), point(0.002, 0.008)])
    assert falling.divergence(0.01) == pytest.approx(
        math.sqrt(0.008 * 0.0006) * 0.01 / math.sqrt(0.02 * 0.002)
    )


@pytest.mark.parametrize("divergence", [-1e-6, 0.0, 1e-7])
def test_what_is_lost_in_noise_has_a_small_sensitivity_and_an_error(divergence: float) -> None:
    found = sensitivity([point(0.02, divergence, stderr=1e-6)])
    assert found.alpha.value == pytest.approx(max(divergence, 0) / 0.02)
    assert found.alpha.stderr == pytest.approx(1e-6 / 0.02, rel=0.01)
    assert found.divergence(0.01) == pytest.approx(found.alpha.value * 0.01)


@pytest.mark.parametrize("points", [[], [point(0.0, 0.1)]])
def test_no_sensitivity_comes_from_nothing(points: list[Point]) -> None:
    with pytest.raises(ValueError, match="positive relative error"):
        sensitivity(points)


def test_differences_on_the_same_chunks_have_their_own_error() -> None:
    found = paired([1.1, 2.1, 3.2], [1.0, 2.0, 3.0])
    assert found.value == pytest.approx(0.4 / 3)
    assert found.stderr == pytest.approx(0.1 / 3)
    assert paired([1.0, 2.0], [1.0, 2.0, 9.0]).value == 0
    with pytest.raises(ValueError, match="two of them"):
        paired([1.0], [0.0])


def test_rank_correlation() -> None:
    assert rank_correlation([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert rank_correlation([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(0.9486833)
    assert rank_correlation([1, 2], [1, 2]) is None
    assert rank_correlation([1, 1, 1], [1, 2, 3]) is None
