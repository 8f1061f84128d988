"""What scores on the same tasks say of two models: intervals, an exact test, its correction.

Plain formulas, each with its source. Proportions are fractions of 1 here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

CONFIDENCE = 0.95
LEVEL = 1 - CONFIDENCE  # below it a corrected p value counts as a difference


class Interval(NamedTuple):
    """Both ends of a confidence interval."""

    low: float
    high: float


class Discordant(NamedTuple):
    """Of tasks that two models answered: how many only the one, and only the other, got right."""

    only_one: int
    only_other: int
    n_tasks: int


def z_quantile(confidence: float = CONFIDENCE) -> float:
    """The two-sided quantile of the normal distribution: 1.96 for 0.95."""
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def wilson(n_correct: int, n_tasks: int, *, confidence: float = CONFIDENCE) -> Interval:
    """The score interval of a proportion.

    Wilson, J. Am. Stat. Assoc. 22 (1927) 209. It is what llama-perplexity prints for HellaSwag.

    Raises:
        ValueError: where the counts are not possible.

    """
    _refuse_impossible(n_correct, n_tasks)
    share, squared = n_correct / n_tasks, z_quantile(confidence) ** 2
    middle = share + squared / (2 * n_tasks)
    half = math.sqrt(squared / n_tasks * (share * (1 - share) + squared / (4 * n_tasks)))
    below = 1 + squared / n_tasks
    low, high = (middle - half) / below, (middle + half) / below
    return Interval(0.0 if n_correct == 0 else low, 1.0 if n_correct == n_tasks else high)


def discordant(one: Sequence[bool], other: Sequence[bool]) -> Discordant:
    """Where two models' answers to the same tasks, in the same order, part.

    Raises:
        ValueError: where they did not answer as many, or none.

    """
    if len(one) != len(other) or not one:
        message = f"{len(one)} and {len(other)} answers cannot be paired"
        raise ValueError(message)
    pairs = list(zip(one, other, strict=True))
    return Discordant(
        only_one=sum(a and not b for a, b in pairs),
        only_other=sum(b and not a for a, b in pairs),
        n_tasks=len(pairs),
    )


def mcnemar(found: Discordant) -> float:
    """The exact two-sided p value that both are right equally often.

    McNemar, Psychometrika 12 (1947) 153: under that hypothesis each discordant task falls to
    either side like a fair coin, so it is the binomial test of one half.
    """
    n = found.only_one + found.only_other
    tail = sum(math.comb(n, k) for k in range(min(found.only_one, found.only_other) + 1))
    return float(min(1, 2 * tail / 2**n)) if n else 1.0


def paired_error(found: Discordant) -> float:
    """The standard error of the difference of both shares, of the pairs as they are."""
    one, other, n = found
    return math.sqrt(one + other - (one - other) ** 2 / n) / n


def paired_interval(found: Discordant, *, confidence: float = CONFIDENCE) -> Interval:
    """The interval of the difference of both shares (the one's minus the other's).

    The adjusted Wald interval of Bonett and Price, J. Educ. Behav. Stat. 37 (2012) 479: one task
    more on each side, so that it has a width where no task is discordant.
    """
    n = found.n_tasks + 2
    one, other = (found.only_one + 1) / n, (found.only_other + 1) / n
    middle = one - other
    half = z_quantile(confidence) * math.sqrt((one + other - middle**2) / n)
    return Interval(max(-1.0, middle - half), min(1.0, middle + half))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Correct p values for their number; in the order given.

    Holm, Scand. J. Statist. 6 (1979) 65: the chance that any of them below the level is an error
    stays within the level, whatever their dependence.
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    ranked = sorted(range(len(p_values)), key=lambda at: p_values[at])
    for rank, at in enumerate(ranked):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[at]))
        corrected[at] = largest
    return tuple(corrected)


def mean_error(errors: Sequence[float]) -> float:
    """The standard error of a mean of independent estimates.

    Raises:
        ValueError: where there are none.

    """
    if not errors:
        message = "the mean of no estimates"
        raise ValueError(message)
    return math.sqrt(sum(error**2 for error in errors)) / len(errors)


def _refuse_impossible(n_correct: int, n_tasks: int) -> None:
    if not 0 <= n_correct <= n_tasks or n_tasks == 0:
        message = f"{n_correct} of {n_tasks} tasks cannot be right"
        raise ValueError(message)
