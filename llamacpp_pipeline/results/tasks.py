"""Differences between files on the same tasks: which are more than chance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from pydantic import NonNegativeInt

from llamacpp_pipeline.results.documented import Documented
from llamacpp_pipeline.results.run import RunRecords
from llamacpp_pipeline.results.statistics import (
    LEVEL,
    Discordant,
    discordant,
    holm,
    mcnemar,
    mean_error,
    paired_error,
    paired_interval,
    z_quantile,
)
from llamacpp_pipeline.results.table import VariantRow
from llamacpp_pipeline.results.task_scores import TaskConditions, TaskScore, scored_under
from llamacpp_pipeline.units import Estimate


class TaskDifference(Documented):
    """Two files on the same tasks of one set."""

    set: str
    """The set's name."""
    one: str
    """Label of the one file."""
    other: str
    """Label of the other."""
    only_one: NonNegativeInt
    """Tasks that only the one answered right."""
    only_other: NonNegativeInt
    """Tasks that only the other answered right."""
    difference: Estimate
    """Score of the one minus that of the other, percentage points; the error is that of pairs."""
    low: float
    """Lower end of the 95 % interval of the difference (Bonett and Price, 2012)."""
    high: float
    """Upper end of it."""
    p: float
    """Exact McNemar test: how likely so uneven a split is where both are equally good."""
    p_holm: float
    """The same, corrected by Holm's method for all the comparisons beside it in this list."""
    differs: bool
    """Whether p_holm is below 0.05: the two differ by more than chance."""


class AverageDifference(Documented):
    """Two files' averages over the sets."""

    one: str
    """Label of the one file."""
    other: str
    """Label of the other."""
    difference: Estimate
    """Average of the one minus that of the other, percentage points; the error is that of pairs."""
    low: float
    """Lower end of its 95 % interval, by the normal distribution and not corrected."""
    high: float
    """Upper end of it."""


class TaskFacts(Documented):
    """Scores on evaluation sets; each file's own stand in its row."""

    sets: tuple[TaskConditions, ...]
    """The sets, and what all scores on them were measured under."""
    against_reference: tuple[TaskDifference, ...] = ()
    """Every other file against the unquantized one, on every set."""
    between: tuple[TaskDifference, ...] = ()
    """Every two of the other files, on every set."""
    averages: tuple[AverageDifference, ...] = ()
    """Every other file's average against the unquantized one's."""

    def marked(self, label: str, name: str) -> bool:
        """Whether a file's score on a set differs from the unquantized one's."""
        return any(
            found.differs and (found.one, found.set) == (label, name)
            for found in self.against_reference
        )


def task_facts(run: RunRecords, rows: Sequence[VariantRow]) -> TaskFacts | None:
    """What the scores say of the files; the first row is the unquantized one. None without scores.

    Raises:
        MixedConditionsError: where two files were scored under different conditions.

    """
    sets = scored_under(run)
    if not sets:
        return None
    reference, *others = rows
    return TaskFacts(
        sets=sets,
        against_reference=_corrected([(row, reference) for row in others], sets),
        between=_corrected(list(combinations(others, 2)), sets),
        averages=tuple(_averages(others, reference)),
    )


Pair = tuple[VariantRow, VariantRow]


def _corrected(pairs: Sequence[Pair], sets: Sequence[TaskConditions]) -> tuple[TaskDifference, ...]:
    found = [
        (one.label, other.label, each.name, pair)
        for one, other in pairs
        for each in sets
        if (pair := _paired(one, other, each.name)) is not None
    ]
    p_values = [mcnemar(pair) for *_, pair in found]
    return tuple(
        _difference(one, other, name, pair=pair, p_values=both)
        for (one, other, name, pair), both in zip(
            found, zip(p_values, holm(p_values), strict=True), strict=True
        )
    )


def _difference(
    one: str, other: str, name: str, *, pair: Discordant, p_values: tuple[float, float]
) -> TaskDifference:
    interval, (p, corrected) = paired_interval(pair), p_values
    return TaskDifference(
        set=name,
        one=one,
        other=other,
        only_one=pair.only_one,
        only_other=pair.only_other,
        difference=Estimate(value=_points(pair), stderr=100 * paired_error(pair)),
        low=100 * interval.low,
        high=100 * interval.high,
        p=p,
        p_holm=corrected,
        differs=corrected < LEVEL,
    )


def _averages(others: Sequence[VariantRow], reference: VariantRow) -> Iterator[AverageDifference]:
    for row in others:
        pairs = [_paired(row, reference, score.set) for score in row.tasks]
        known = [pair for pair in pairs if pair is not None]
        if row.task_average is None or reference.task_average is None or len(known) != len(pairs):
            continue
        value = sum(map(_points, known)) / len(known)
        stderr = 100 * mean_error([paired_error(pair) for pair in known])
        half = z_quantile() * stderr
        yield AverageDifference(
            one=row.label,
            other=reference.label,
            difference=Estimate(value=value, stderr=stderr),
            low=value - half,
            high=value + half,
        )


def _paired(one: VariantRow, other: VariantRow, name: str) -> Discordant | None:
    left, right = _score(one, name), _score(other, name)
    return None if left is None or right is None else discordant(left.answers(), right.answers())


def _score(row: VariantRow, name: str) -> TaskScore | None:
    return next((score for score in row.tasks if score.set == name), None)


def _points(pair: Discordant) -> float:
    return 100 * (pair.only_one - pair.only_other) / pair.n_tasks
