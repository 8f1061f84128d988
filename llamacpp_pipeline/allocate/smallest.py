"""The smallest mix of at most a divergence, when the divergences of items add up.

An item is what gets one type: a tensor, or tensors that share theirs. The corner of the frontier
that reaches the divergence is one answer; in between lie mixes that no price of a byte chooses.
They are enumerated: with lambda the price at that corner (nats per byte), an option's regret is
what it takes more, in bytes + divergence / lambda, than its item's best; and no mix that is smaller
than the corner has regrets whose sum is above the corner's distance from the bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llamacpp_pipeline.allocate.frontier import (
    Corner,
    Option,
    frontier,
    hull,
    smallest_within,
)

MOST_STATES = 512  # partial mixes kept; of more, those of least regret
ROUNDING = 1e-9  # relative, of sums of divergences


@dataclass(frozen=True, kw_only=True)
class Reachable:
    """The divergences that mixes can have, nats."""

    least: float
    most: float


@dataclass(frozen=True, kw_only=True)
class Mix:
    """One choice for all items together. No mix of its divergence takes fewer than `bound`."""

    n_bytes: int
    divergence: float
    bound: int


@dataclass(frozen=True, kw_only=True)
class _State:
    n_bytes: int
    divergence: float
    regret: float  # bytes


def reachable(items: Mapping[str, Sequence[Option]]) -> Reachable:
    """From every item at its best to every item at its smallest."""
    hulls = [hull(options) for options in items.values()]
    return Reachable(
        least=math.fsum(options[-1].divergence for options in hulls),
        most=math.fsum(options[0].divergence for options in hulls),
    )


def smallest_mix(items: Mapping[str, Sequence[Option]], divergence: float) -> Mix | None:
    """The smallest mix of at most this divergence; None where none reaches it.

    Where more than `MOST_STATES` partial mixes would have to be kept it may be larger than the
    smallest, but never larger than the frontier's corner.
    """
    allowed = divergence * (1 + ROUNDING)
    corner = smallest_within(frontier(items), allowed)
    if corner is None:
        return None
    if not corner.gain_per_byte:
        return _as_mix(corner, bound=corner.n_bytes)
    price = corner.gain_per_byte
    least = sum(min(_cost(option, price) for option in options) for options in items.values())
    bound = least - allowed / price
    gap = corner.n_bytes - bound
    mixes = _enumerated(items, price=price, gap=gap)
    within = [state for state in mixes if state.divergence <= allowed]
    found = min(within, key=lambda s: (s.n_bytes, s.divergence), default=None)
    if found is None or found.n_bytes >= corner.n_bytes:
        return _as_mix(corner, bound=_whole(bound))
    return Mix(n_bytes=found.n_bytes, divergence=found.divergence, bound=_whole(bound))


def _enumerated(items: Mapping[str, Sequence[Option]], *, price: float, gap: float) -> list[_State]:
    """The mixes whose regrets sum to at most the gap, less those that another one beats."""
    states = [_State(n_bytes=0, divergence=0.0, regret=0.0)]
    for options in items.values():
        best = min(_cost(option, price) for option in options)
        near = [(o, regret) for o in options if (regret := _cost(o, price) - best) <= gap]
        states = _undominated(
            [
                _State(
                    n_bytes=state.n_bytes + option.n_bytes,
                    divergence=state.divergence + option.divergence,
                    regret=state.regret + regret,
                )
                for state in states
                for option, regret in near
                if state.regret + regret <= gap
            ]
        )
    return states


def _undominated(states: Sequence[_State]) -> list[_State]:
    """Those that no other is as small and as good as; of too many, those of least regret."""
    kept: list[_State] = []
    for state in sorted(states, key=lambda s: (s.n_bytes, s.divergence)):
        if not kept or state.divergence < kept[-1].divergence:
            kept.append(state)
    return sorted(kept, key=lambda s: s.regret)[:MOST_STATES]


def _cost(option: Option, price: float) -> float:
    return option.n_bytes + option.divergence / price


def _as_mix(corner: Corner, *, bound: int) -> Mix:
    return Mix(n_bytes=corner.n_bytes, divergence=corner.divergence, bound=bound)


def _whole(n_bytes: float) -> int:
    """The next whole byte up, as mixes have only such; a little down against rounding."""
    return max(0, -int(-(n_bytes * (1 - ROUNDING)) // 1))
