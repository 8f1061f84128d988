"""Which decisions are close at a solution, and what measured marginal values do to them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from llamacpp_pipeline.allocate.frontier import Option
from llamacpp_pipeline.allocate.refinement import (
    Tensor,
    agreement,
    close_steps,
    price,
    remeasured,
    weighed,
)
from llamacpp_pipeline.units import Estimate


def options(*points: tuple[str, int, float]) -> tuple[Option, ...]:
    return tuple(Option(type=kind, n_bytes=size, divergence=d) for kind, size, d in points)


def tensor(present: str, *points: tuple[str, int, float], scatter: float = 0.2) -> Tensor:
    return Tensor(options=options(*points), present=present, scatter=scatter)


# A byte is worth between 0.01 (a's step up) and 0.04 (b's step down): 0.02.
A = tensor("q3_K", ("q3_K", 100, 2.0), ("q4_K", 150, 1.5))
B = tensor("q4_K", ("q3_K", 100, 5.0), ("q4_K", 150, 3.0), ("q8_0", 400, 2.99))


def test_a_byte_is_worth_what_lies_between_the_steps_taken_and_not_taken() -> None:
    assert price({"a": A, "b": B}) == pytest.approx(0.02)


def test_one_side_alone_says_what_a_byte_is_worth() -> None:
    assert price({"a": A}) == pytest.approx(0.01)
    smallest = tensor("q4_K", ("q3_K", 100, 3.0), ("q4_K", 150, 2.0))
    assert price({"t": smallest}) == pytest.approx(0.02)


def test_a_model_without_choices_has_no_price() -> None:
    with pytest.raises(ValueError, match="no tensor has another type"):
        price({"t": tensor("q4_K", ("q4_K", 150, 2.0))})


def test_a_step_is_close_where_the_curve_could_be_wrong_about_it() -> None:
    # a's step up has a regret of 0.02 x 50 - 0.5 = 0.5 nats and, with 20 % of 2.0 and of 1.5, an
    # error of 0.5; b's step down one of 2 - 1 = 1 and an error of 1.17. b's step to Q8_0 gains
    # next to nothing for 250 bytes: no error of a fifth makes that good.
    assert A.stderr("q4_K") == pytest.approx(0.5)
    assert {(step.tensor, step.type) for step in close_steps({"a": A, "b": B})} == {
        ("a", "q4_K"),
        ("b", "q3_K"),
    }
    sure = {
        name: replace(one, measured={"q3_K": 0.05, "q4_k": 0.05})
        for name, one in (("a", A), ("b", B))
    }
    assert close_steps(sure) == ()


def test_a_type_that_the_present_one_beats_in_both_is_never_close() -> None:
    worse = tensor("q4_K", ("q4_0", 150, 1.1), ("q4_K", 150, 1.0), ("q5_K", 180, 0.6), scatter=3)
    assert {step.type for step in close_steps({"t": worse})} == {"q5_K"}


def test_an_exact_step_replaces_the_assumed_one_and_the_rest_is_scaled() -> None:
    exact = {("a", "q4_K"): Estimate(value=-0.25, stderr=0.0)}
    moved = remeasured({"a": A, "b": B}, exact, scale=0.5)
    assert moved["a"] == options(("q3_K", 100, 1.0), ("q4_K", 150, 0.75))
    assert [o.divergence for o in moved["b"]] == pytest.approx([2.5, 1.5, 1.495])
    assert agreement({"a": A}, exact) == pytest.approx(0.5)


def test_a_noisy_measurement_counts_by_its_error() -> None:
    noisy = {("a", "q4_K"): Estimate(value=-0.7, stderr=0.5)}  # the curve: -0.5 with 0.5
    after = remeasured({"a": A}, noisy, scale=1.0)["a"]
    assert [o.divergence for o in after] == pytest.approx([2.0, 1.4])


def test_small_steps_count_as_much_as_large_ones_that_noise_made() -> None:
    """Steps of -0.5 measured with an error as large: on average they are what they are."""
    steps = {f"t{at}": A for at in range(8)}
    values = [-0.5 + noise for noise in (-0.9, -0.6, -0.3, -0.1, 0.1, 0.3, 0.6, 0.9)]
    marginal = {
        (name, "q4_K"): Estimate(value=value, stderr=0.5)
        for name, value in zip(steps, values, strict=True)
    }
    assert agreement(steps, marginal) == pytest.approx(1.0, abs=1e-9)
    assert agreement(steps, {}) is None


def test_no_divergence_falls_to_zero_by_a_measurement() -> None:
    too_good = {("a", "q4_K"): Estimate(value=-9.0, stderr=0.0)}
    assert all(option.divergence > 0 for option in remeasured({"a": A}, too_good, scale=1.0)["a"])


def test_estimates_are_weighed_by_their_variances() -> None:
    both = weighed([Estimate(value=1.0, stderr=1.0), Estimate(value=4.0, stderr=2.0)])
    assert both.value == pytest.approx(1.6)
    assert both.stderr == pytest.approx(math.sqrt(0.8))
    exact = weighed([Estimate(value=1.0, stderr=0.0), Estimate(value=4.0, stderr=2.0)])
    assert exact.value == 1.0
    with pytest.raises(ValueError, match="no estimates"):
        weighed([])
