"""What an importance matrix tells about a model's activations.

The formulas are those of the patched llama-imatrix (`--statistics-file`) and are written out
in docs/imatrix.md. All in double precision; None means undefined or not known, never a number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt

from llamacpp_pipeline.datasets.imatrix_file import Entry, Imatrix

Doubles = npt.NDArray[np.float64]

ACTIVE_MEAN_SQUARE = 1e-5  # a channel is active above it
SPREAD_OF_NOTHING = 1e-12  # a standard deviation up to this times the largest value is rounding
FEW_ROWS = 128  # an expert with fewer has a mean square known to 12.5 % at best
BLOCK = re.compile(r"blk\.(?P<layer>\d{1,6})\.(?P<kind>.+)")


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """One number per channel, over the channels."""

    mean: float | None = None
    standard_deviation: float | None = None
    skewness: float | None = None
    excess_kurtosis: float | None = None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One number per channel, in two tensors of as many channels."""

    l2_distance: float | None = None
    cosine_similarity: float | None = None
    pearson_correlation: float | None = None
    covariance: float | None = None


@dataclass(frozen=True, kw_only=True)
class ToPrevious:
    means: Difference = Difference()
    mean_squares: Difference = Difference()


@dataclass(frozen=True, kw_only=True)
class Experts:
    n_rows: tuple[int, ...]
    n_unseen: int
    n_few: int  # fewer than FEW_ROWS rows, the unseen ones included


@dataclass(frozen=True, kw_only=True)
class Activations:
    """Of a tensor, or of all tensors of a layer."""

    n_channels: int = 0
    sum_mean_squares: float | None = None
    mean_square: float | None = None
    normalized_entropy: float | None = None
    active_share: float | None = None
    means: Distribution = Distribution()
    mean_squares: Distribution = Distribution()
    gain: float | None = None
    to_previous: ToPrevious = ToPrevious()


@dataclass(frozen=True, kw_only=True)
class TensorStatistics:
    name: str
    layer: int | None  # None: not in a block
    previous: str | None  # the same tensor of the nearest lower layer that has it
    n_rows: int
    has_means: bool
    experts: Experts | None  # None: a dense tensor
    activations: Activations


@dataclass(frozen=True, kw_only=True)
class LayerStatistics:
    layer: int
    tensors: tuple[str, ...]
    n_compared: int
    has_means: bool
    activations: Activations


@dataclass(frozen=True, kw_only=True)
class ImatrixStatistics:
    tensors: tuple[TensorStatistics, ...]  # by layer and name; those outside blocks last
    layers: tuple[LayerStatistics, ...]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """E[x] and E[x^2] per channel, over all rows of all experts. Empty: no rows."""

    mean_squares: Doubles
    means: Doubles | None


def profile(entry: Entry) -> Profile:
    """The average row of a tensor, whichever expert it went to."""
    if entry.n_rows == 0:
        return Profile(mean_squares=np.zeros(0), means=None)
    means = None if entry.values is None else entry.values.sum(axis=0) / entry.n_rows
    return Profile(mean_squares=entry.squares.sum(axis=0) / entry.n_rows, means=means)


def distribution(values: Doubles) -> Distribution:
    """Mean, population standard deviation, skewness and excess kurtosis over the channels."""
    if values.size == 0:
        return Distribution()
    centered = values - values.mean()
    m2, m3, m4 = (float(np.mean(centered**power)) for power in (2, 3, 4))
    deviation = float(np.sqrt(m2))
    flat = _is_flat(values, deviation)
    return Distribution(
        mean=float(values.mean()),
        standard_deviation=deviation,
        skewness=None if flat else m3 / (m2 * deviation),
        excess_kurtosis=None if flat else m4 / (m2 * m2) - 3,
    )


def _is_flat(values: Doubles, deviation: float) -> bool:
    return bool(deviation <= SPREAD_OF_NOTHING * np.abs(values).max())


def difference(now: Doubles, then: Doubles) -> Difference:
    """How far apart two profiles are; nothing where they have other numbers of channels."""
    if now.size == 0 or now.size != then.size:
        return Difference()
    lengths = float(np.linalg.norm(now) * np.linalg.norm(then))
    now_centered, then_centered = now - now.mean(), then - then.mean()
    now_sd, then_sd = (float(np.sqrt(np.mean(c**2))) for c in (now_centered, then_centered))
    covariance = float(np.mean(now_centered * then_centered))
    flat = _is_flat(now, now_sd) or _is_flat(then, then_sd)
    return Difference(
        l2_distance=float(np.linalg.norm(now - then)),
        cosine_similarity=float(now @ then) / lengths if lengths > 0 else None,
        pearson_correlation=None if flat else covariance / (now_sd * then_sd),
        covariance=covariance,
    )


def normalized_entropy(mean_squares: Doubles) -> float | None:
    """Entropy of the energy's distribution over channels, 1 where all carry the same."""
    total = float(mean_squares.sum())
    if mean_squares.size < 2 or total <= 0:
        return None
    share = mean_squares / total
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum() / np.log2(mean_squares.size))


def activations(own: Profile) -> Activations:
    """All that a profile tells by itself."""
    energy = own.mean_squares
    if energy.size == 0:
        return Activations()
    return Activations(
        n_channels=energy.size,
        sum_mean_squares=float(energy.sum()),
        mean_square=float(energy.sum()) / energy.size,
        normalized_entropy=normalized_entropy(energy),
        active_share=float(np.mean(energy > ACTIVE_MEAN_SQUARE)),
        means=Distribution() if own.means is None else distribution(own.means),
        mean_squares=distribution(energy),
    )


def _compared(own: Activations, now: Profile, then: Profile) -> Activations:
    means = Difference()
    if now.means is not None and then.means is not None:
        means = difference(now.means, then.means)
    energies = difference(now.mean_squares, then.mean_squares)
    return replace(
        own,
        gain=gain(now.mean_squares, then.mean_squares),
        to_previous=ToPrevious(means=means, mean_squares=energies),
    )


def gain(now: Doubles, then: Doubles) -> float | None:
    """How much larger the activations are: the ratio of their root mean squares."""
    before = float(then.sum())
    if now.size != then.size or before <= 0:
        return None
    return math.sqrt(float(now.sum()) / before)


@dataclass(frozen=True, kw_only=True)
class _Located:
    entry: Entry
    layer: int | None
    kind: str
    own: Profile
    previous: _Located | None = None


def locate(name: str) -> tuple[int | None, str]:
    """`blk.7.attn_q.weight` -> 7, `attn_q.weight`; outside blocks None and the name."""
    match = BLOCK.fullmatch(name)
    return (None, name) if match is None else (int(match["layer"]), match["kind"])


def statistics(imatrix: Imatrix) -> ImatrixStatistics:
    """Everything, per tensor and per layer."""
    located = _locate_all(imatrix)
    layers: dict[int, list[_Located]] = {}
    for one in located:
        if one.layer is not None and one.own.mean_squares.size:
            layers.setdefault(one.layer, []).append(one)
    return ImatrixStatistics(
        tensors=tuple(_tensor(one) for one in located),
        layers=tuple(_layer(layer, members) for layer, members in layers.items()),
    )


def _locate_all(imatrix: Imatrix) -> list[_Located]:
    """By layer and name, each linked to the same tensor of the nearest lower layer with data."""
    places = {name: locate(name) for name in imatrix.entries}
    order = sorted(places, key=lambda name: (_rank(places[name][0]), name))
    result: list[_Located] = []
    last: dict[str, _Located] = {}
    for name in order:
        (layer, kind), entry = places[name], imatrix.entries[name]
        own = profile(entry)
        before = last.get(kind)
        fits = before is not None and before.own.mean_squares.size == own.mean_squares.size
        one = _Located(
            entry=entry, layer=layer, kind=kind, own=own, previous=before if fits else None
        )
        result.append(one)
        if layer is not None and own.mean_squares.size:
            last[kind] = one
    return result


def _rank(layer: int | None) -> float:
    return math.inf if layer is None else layer


def _tensor(one: _Located) -> TensorStatistics:
    own = activations(one.own)
    before = one.previous
    return TensorStatistics(
        name=one.entry.name,
        layer=one.layer,
        previous=None if before is None else before.entry.name,
        n_rows=one.entry.n_rows,
        has_means=one.own.means is not None,
        experts=experts(one.entry),
        activations=own if before is None else _compared(own, one.own, before.own),
    )


def experts(entry: Entry) -> Experts | None:
    """How many rows each expert saw; None for a dense tensor."""
    if len(entry.counts) == 1:
        return None
    return Experts(
        n_rows=tuple(int(count) for count in entry.counts),
        n_unseen=int((entry.counts == 0).sum()),
        n_few=int((entry.counts < FEW_ROWS).sum()),
    )


def _layer(layer: int, members: Sequence[_Located]) -> LayerStatistics:
    whole = _joined([one.own for one in members])
    pairs = [(one.own, one.previous.own) for one in members if one.previous is not None]
    own = activations(whole)
    if pairs:
        now, then = (_joined(side) for side in zip(*pairs, strict=True))
        own = _compared(own, now, then)
    return LayerStatistics(
        layer=layer,
        tensors=tuple(one.entry.name for one in members),
        n_compared=len(pairs),
        has_means=whole.means is not None,
        activations=own,
    )


def _joined(profiles: Sequence[Profile]) -> Profile:
    """The channels of all, one tensor after the other; means only where all have them."""
    means = [one.means for one in profiles if one.means is not None]
    return Profile(
        mean_squares=np.concatenate([one.mean_squares for one in profiles]),
        means=np.concatenate(means) if len(means) == len(profiles) else None,
    )


def document(statistics: ImatrixStatistics) -> dict[str, object]:
    """The parts `tensors` and `layers` of the JSON that the tool writes."""
    return {
        "tensors": [_flat(asdict(one)) for one in statistics.tensors],
        "layers": [_flat(asdict(one)) for one in statistics.layers],
    }


def _flat(record: dict[str, object]) -> dict[str, object]:
    own = cast("dict[str, object]", record.pop("activations"))
    return {**record, **own}
