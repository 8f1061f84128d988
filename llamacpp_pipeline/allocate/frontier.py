"""Which sizes reach which divergence, when the divergences of tensors add up.

Each tensor has options (bytes, divergence). Taking steps along the lower convex hulls of all
tensors in the order of what a byte gains is the linear relaxation of the knapsack, solved for
every size at once: its corners are mixes that no other mix of their size or less beats.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Option:
    """A type that a tensor can have."""

    type: str
    n_bytes: int
    divergence: float  # nats, of the model with this tensor alone at the type


@dataclass(frozen=True, kw_only=True)
class Corner:
    """A mix on the frontier, and the step that led to it."""

    n_bytes: int
    divergence: float
    tensor: str | None = None  # None: the smallest mix, to which no step leads
    type: str | None = None
    gain_per_byte: float | None = None  # nats


def hull(options: Sequence[Option]) -> tuple[Option, ...]:
    """The options that some price of a byte would choose, by size.

    Raises:
        ValueError: where there are none.

    """
    if not options:
        message = "a tensor needs at least one option"
        raise ValueError(message)
    kept: list[Option] = []
    for option in sorted(options, key=lambda o: (o.n_bytes, o.divergence)):
        if kept and option.divergence >= kept[-1].divergence:
            continue
        while len(kept) > 1 and gain(kept[-2], kept[-1]) <= gain(kept[-2], option):
            kept.pop()
        kept.append(option)
    return tuple(kept)


def gain(small: Option, large: Option) -> float:
    """What each further byte takes off the divergence, nats."""
    more = large.n_bytes - small.n_bytes
    return (small.divergence - large.divergence) / more if more else float("inf")


def frontier(tensors: Mapping[str, Sequence[Option]]) -> tuple[Corner, ...]:
    """All corners, from the smallest mix to that of least divergence."""
    hulls = {name: hull(options) for name, options in tensors.items()}
    steps = sorted(
        (-gain(small, large), name, at)
        for name, options in hulls.items()
        for at, (small, large) in enumerate(itertools.pairwise(options))
    )
    size = sum(options[0].n_bytes for options in hulls.values())
    total = sum(options[0].divergence for options in hulls.values())
    corners = [Corner(n_bytes=size, divergence=total)]
    for price, name, at in steps:
        small, large = hulls[name][at], hulls[name][at + 1]
        size += large.n_bytes - small.n_bytes
        total += large.divergence - small.divergence
        corners.append(
            Corner(
                n_bytes=size,
                divergence=total,
                tensor=name,
                type=large.type,
                gain_per_byte=-price,
            )
        )
    return tuple(corners)


def smallest_within(corners: Sequence[Corner], divergence: float) -> Corner | None:
    """The smallest mix of at most this divergence; None where none reaches it."""
    return next((corner for corner in corners if corner.divergence <= divergence), None)


def best_within(corners: Sequence[Corner], n_bytes: int) -> Corner | None:
    """The best corner of at most this size; None where the smallest is larger."""
    at = bisect.bisect_right([corner.n_bytes for corner in corners], n_bytes)
    return corners[at - 1] if at else None


def least_at(corners: Sequence[Corner], n_bytes: int) -> float | None:
    """What no mix of at most this size goes below, nats; None where the smallest is larger.

    The relaxation's value: the last corner within, and a part of the step after it.
    """
    at = bisect.bisect_right([corner.n_bytes for corner in corners], n_bytes)
    if not at:
        return None
    within, after = corners[at - 1], corners[at : at + 1]
    part = sum((n_bytes - within.n_bytes) * (corner.gain_per_byte or 0.0) for corner in after)
    return max(within.divergence - part, 0.0)


def mix_at(tensors: Mapping[str, Sequence[Option]], corners: Sequence[Corner]) -> dict[str, str]:
    """The types at the last of these corners, which begin with the smallest mix."""
    types = {name: hull(options)[0].type for name, options in tensors.items()}
    for corner in corners:
        if corner.tensor is not None and corner.type is not None:
            types[corner.tensor] = corner.type
    return types
