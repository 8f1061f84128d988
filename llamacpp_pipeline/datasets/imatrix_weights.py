"""Texts of different weight in one importance matrix: each token counts that many times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from llamacpp_pipeline.datasets.imatrix_file import Entry, Imatrix, merge


def weighted(imatrix: Imatrix, weight: int) -> Imatrix:
    """As if the text had been read so many times: sums and counts alike, so it stays exact."""
    if weight == 1:
        return imatrix
    entries = {name: _times(entry, weight) for name, entry in imatrix.entries.items()}
    return replace(imatrix, entries=entries)


def _times(entry: Entry, weight: int) -> Entry:
    values = None if entry.values is None else entry.values * weight
    return replace(
        entry, squares=entry.squares * weight, counts=entry.counts * weight, values=values
    )


def smallest(weights: Sequence[int]) -> tuple[int, ...]:
    """Weights in the same proportions without a common factor."""
    divisor = math.gcd(*weights)
    return tuple(weight // divisor for weight in weights)


def merge_weighted(parts: Sequence[Imatrix], weights: Sequence[int]) -> Imatrix:
    """All rows of all parts, those of each part as often as its weight says.

    Raises:
        InputError: where a tensor has another shape in another part.

    """
    pairs = zip(parts, smallest(weights), strict=True)
    return merge([weighted(part, weight) for part, weight in pairs])
