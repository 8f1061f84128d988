"""What readers make of an importance matrix: sensitivities, a prior for experts, comparisons."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llamacpp_pipeline.datasets.imatrix_file import Entry, Imatrix
from llamacpp_pipeline.datasets.imatrix_statistics import (
    Difference,
    difference,
    gain,
    locate,
    profile,
)

PRIOR_ROWS = 32.0  # what the tensor's mean over experts counts for, in rows


@dataclass(frozen=True, kw_only=True)
class HDiag:
    """The mean of the Hessian's diagonal for one tensor: E[x^2] over its input channels."""

    name: str
    layer: int | None
    raw: float
    normalised: float  # 1 for the largest of the model


@dataclass(frozen=True, kw_only=True)
class TensorComparison:
    """One tensor in two files. `gain` is second / first; None where one of them has no rows."""

    name: str
    gain: float | None
    mean_squares: Difference
    means: Difference | None  # None: not known in both


@dataclass(frozen=True, kw_only=True)
class ImatrixComparison:
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    other_shape: tuple[str, ...]
    tensors: tuple[TensorComparison, ...]


def h_diag(imatrix: Imatrix) -> tuple[HDiag, ...]:
    """Raw and normalised sensitivities, by layer and name; tensors without rows are left out."""
    raw = {
        name: float(own.mean_squares.mean())
        for name, own in ((name, profile(entry)) for name, entry in imatrix.entries.items())
        if own.mean_squares.size
    }
    largest = max(raw.values(), default=0.0) or 1.0
    rows = [
        HDiag(name=name, layer=locate(name)[0], raw=value, normalised=value / largest)
        for name, value in raw.items()
    ]
    return tuple(sorted(rows, key=lambda row: (row.layer is None, row.layer or 0, row.name)))


def with_expert_prior(entry: Entry, *, rows: float = PRIOR_ROWS) -> npt.NDArray[np.float64]:
    """Mean squares per expert and channel, drawn towards the tensor's mean over experts.

    Every expert is given `rows` more rows of the average routed row, so that one that saw few
    tokens is judged mostly by the others and one that saw none entirely by them. A dense tensor
    is not changed. The file itself never holds the prior.

    Raises:
        ValueError: where no expert saw a row, so that there is no mean.

    """
    if entry.n_rows == 0:
        message = f"{entry.name} has no rows"
        raise ValueError(message)
    if len(entry.counts) == 1:
        return entry.squares / entry.n_rows
    mean = profile(entry).mean_squares
    counts = entry.counts.astype(np.float64)[:, np.newaxis]
    return np.asarray((entry.squares + rows * mean) / (counts + rows))


def compare(first: Imatrix, second: Imatrix) -> ImatrixComparison:
    """The same model's importance from two files: which tensors, and how far apart."""
    common = sorted(first.entries.keys() & second.entries.keys())
    fitting = [name for name in common if _channels(first, name) == _channels(second, name)]
    return ImatrixComparison(
        only_first=tuple(sorted(first.entries.keys() - second.entries.keys())),
        only_second=tuple(sorted(second.entries.keys() - first.entries.keys())),
        other_shape=tuple(name for name in common if name not in set(fitting)),
        tensors=tuple(_compare(first.entries[name], second.entries[name]) for name in fitting),
    )


def _channels(imatrix: Imatrix, name: str) -> int:
    return int(imatrix.entries[name].squares.shape[1])


def _compare(first: Entry, second: Entry) -> TensorComparison:
    before, after = profile(first), profile(second)
    return TensorComparison(
        name=first.name,
        gain=gain(after.mean_squares, before.mean_squares),
        mean_squares=difference(after.mean_squares, before.mean_squares),
        means=None
        if before.means is None or after.means is None
        else difference(after.means, before.means),
    )


def misfits(imatrix: Imatrix, shapes: Mapping[str, tuple[int, int]]) -> tuple[str, ...]:
    """Entries that a model cannot use, and why.

    Args:
        imatrix: The file that is to be used.
        shapes: The model's weights by name: input channels, and matrices (experts; 1 if dense).

    """
    return tuple(
        f"{name}: the model has no such tensor"
        if name not in shapes
        else f"{name}: {entry.squares.size} values, the model needs {math.prod(shapes[name])}"
        for name, entry in imatrix.entries.items()
        if name not in shapes or entry.squares.size != math.prod(shapes[name])
    )


def lacking(imatrix: Imatrix, names: Collection[str]) -> tuple[str, ...]:
    """Weights of a model that the file knows nothing about."""
    known = {name for name, entry in imatrix.entries.items() if entry.n_rows}
    return tuple(sorted(set(names) - known))
