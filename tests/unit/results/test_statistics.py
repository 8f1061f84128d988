from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from llamacpp_pipeline.results.statistics import (
    Discordant,
    discordant,
    holm,
    mcnemar,
    mean_error,
    paired_error,
    paired_interval,
    wilson,
)


@pytest.mark.parametrize(
    ("n_correct", "n_tasks", "low", "high"),
    [
        # Rows that the tool printed.
        pytest.param(1, 1, 20.6549, 100.0, id="all-of-one"),
        pytest.param(1, 2, 9.4531, 90.5469, id="half"),
        pytest.param(1, 4, 4.5587, 69.9358, id="a-quarter"),
        pytest.param(50, 120, 33.2384, 50.6120, id="many"),
    ],
)
def test_the_interval_is_the_one_that_the_tool_prints(
    n_correct: int, n_tasks: int, low: float, high: float
) -> None:
    found = wilson(n_correct, n_tasks)

    assert (round(100 * found.low, 4), round(100 * found.high, 4)) == (low, high)


def test_an_interval_ends_where_no_more_can_be_right() -> None:
    assert wilson(0, 10).low == 0
    assert wilson(10, 10).high == 1
    assert wilson(0, 10).high == pytest.approx(1 - wilson(10, 10).low)


def test_the_wilson_interval_covers_the_true_share_as_often_as_it_says() -> None:
    n, share = 60, 0.3
    weights = [math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(n + 1)]

    covered = sum(
        weight for k, weight in enumerate(weights) if wilson(k, n).low <= share <= wilson(k, n).high
    )
    assert 0.93 < covered < 0.98


@pytest.mark.parametrize(("n_correct", "n_tasks"), [(0, 0), (3, 2), (-1, 2)])
def test_impossible_counts_are_refused(n_correct: int, n_tasks: int) -> None:
    with pytest.raises(ValueError, match="cannot be right"):
        wilson(n_correct, n_tasks)


def test_answers_are_paired_by_position() -> None:
    one = [True, True, False, False, True]
    other = [True, False, True, False, False]

    assert discordant(one, other) == Discordant(only_one=2, only_other=1, n_tasks=5)


@pytest.mark.parametrize(("one", "other"), [([True], [True, False]), ([], [])])
def test_answers_to_other_tasks_cannot_be_paired(one: list[bool], other: list[bool]) -> None:
    with pytest.raises(ValueError, match="cannot be paired"):
        discordant(one, other)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (0, 5), (1, 7), (6, 6), (3, 12), (9, 2)])
def test_the_exact_test_counts_every_way_the_coins_can_fall(b: int, c: int) -> None:
    n = b + c
    ways = [sum(coins) for coins in itertools.product((0, 1), repeat=n)]
    as_far = sum(abs(heads - n / 2) >= abs(b - n / 2) for heads in ways)

    assert mcnemar(Discordant(b, c, 100)) == pytest.approx(as_far / 2**n)


def test_the_exact_test_does_not_care_which_is_the_one() -> None:
    assert mcnemar(Discordant(30, 52, 750)) == mcnemar(Discordant(52, 30, 750))
    assert mcnemar(Discordant(700, 3000, 14042)) < 1e-300  # large counts neither overflow nor fail


def test_the_error_is_that_of_the_differences_task_by_task() -> None:
    differences = [1.0] * 8 + [-1.0] * 3 + [0.0] * 39
    mean = sum(differences) / 50
    spread = math.sqrt(sum((d - mean) ** 2 for d in differences) / 50)

    assert paired_error(Discordant(8, 3, 50)) == pytest.approx(spread / math.sqrt(50))


def test_a_paired_interval_worked_by_hand() -> None:
    # 12 and 4 of 98: with one more each of 100, 0.13 - 0.05 = 0.08,
    # and 1.959964 * sqrt((0.18 - 0.0064) / 100) = 0.0816626.
    found = paired_interval(Discordant(12, 4, 98))

    assert found.low == pytest.approx(-0.0016626, abs=1e-6)
    assert found.high == pytest.approx(0.1616626, abs=1e-6)


def test_equal_answers_leave_an_interval_around_nothing() -> None:
    found = paired_interval(Discordant(0, 0, 400))

    assert -0.02 < found.low < 0 < found.high < 0.02


def test_the_paired_interval_covers_the_true_difference_as_often_as_it_says() -> None:
    generator = np.random.default_rng(7)
    n, only_one, only_other = 200, 0.10, 0.05

    def sample() -> Discordant:
        kinds = generator.random(n)
        b = int((kinds < only_one).sum())
        c = int(((only_one <= kinds) & (kinds < only_one + only_other)).sum())
        return Discordant(b, c, n)

    intervals = [paired_interval(sample()) for _ in range(2000)]
    covered = sum(low <= only_one - only_other <= high for low, high in intervals)
    assert 0.935 < covered / 2000 < 0.97


def test_corrected_p_values_worked_by_hand() -> None:
    # Sorted 0.005, 0.01, 0.03, 0.04: times 4, 3, 2, 1, and never below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))


def test_a_corrected_p_value_stays_a_probability() -> None:
    assert holm([0.9, 0.8, 0.7]) == (1, 1, 1)
    assert holm([]) == ()
    assert holm([0.02]) == (0.02,)


def test_the_error_of_a_mean_of_tests() -> None:
    assert mean_error([3.0, 4.0]) == pytest.approx(2.5)
    with pytest.raises(ValueError, match="no estimates"):
        mean_error([])
