"""Which files lose to one that is no larger: nobody should publish such a file unnoticed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from llamacpp_pipeline.results.documented import Documented
from llamacpp_pipeline.results.table import VariantRow
from llamacpp_pipeline.stages.paired import Difference, kld_difference

SAME_SIZE = 1.005  # of its file: what is larger by less counts as equally large


class KldDifference(Documented):
    """One file's mean KLD minus another's, in nats."""

    value: float
    """The difference; below zero where the first is better."""
    stderr: float
    """Its standard error."""
    bound: float
    """What the difference must exceed to count as one, at 95 % confidence."""
    paired: bool
    """Whether the error is that of the differences over the same chunks; else it is too large."""


class Beaten(Documented):
    """A file that loses to another that is no larger."""

    label: str
    """The variant that loses."""
    by: str
    """The variant that beats it by most."""
    difference: KldDifference
    """How much more mean KLD the loser has."""


class Matched(Documented):
    """A file made as large as another, beside that other."""

    label: str
    """The variant that was matched."""
    against: str
    """What it was matched to."""
    difference: KldDifference
    """Its mean KLD minus the other's."""


def matched_rows(rows: Sequence[VariantRow], matches: Mapping[str, str]) -> tuple[Matched, ...]:
    """Each variant against what it was matched to; `matches` has the labels of both."""
    by_label = {row.label: row for row in rows}
    pairs = ((by_label.get(one), by_label.get(other)) for one, other in matches.items())
    return tuple(
        Matched(
            label=one.label,
            against=other.label,
            difference=documented(kld_difference(one.quality, other.quality)),
        )
        for one, other in pairs
        if one is not None and other is not None and one.quality and other.quality
    )


def beaten_rows(rows: Sequence[VariantRow]) -> tuple[Beaten, ...]:
    """Each variant that another beats in mean KLD beyond the error without being larger."""
    return tuple(
        found for row in rows if row.kind == "variant" and (found := _beaten(row, rows)) is not None
    )


def documented(found: Difference) -> KldDifference:
    """A difference as results.json has it."""
    return KldDifference(**found.model_dump())


def _beaten(row: VariantRow, rows: Sequence[VariantRow]) -> Beaten | None:
    losses = [
        Beaten(label=row.label, by=other.label, difference=documented(found))
        for other, found in _rivals(row, rows)
        if found.value > 0 and not found.is_tie
    ]
    return max(losses, key=lambda loss: loss.difference.value, default=None)


def _rivals(row: VariantRow, rows: Sequence[VariantRow]) -> Iterator[tuple[VariantRow, Difference]]:
    if row.quality is None:
        return
    largest = row.size.file_bytes * SAME_SIZE
    for other in rows:
        if other is not row and other.quality is not None and other.size.file_bytes <= largest:
            yield other, kld_difference(row.quality, other.quality)
