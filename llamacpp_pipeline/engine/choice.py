"""Which steps of a plan are run: all, or those named and what they need."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase

from llamacpp_pipeline.errors import UsageError
from llamacpp_pipeline.plan.order import needs
from llamacpp_pipeline.plan.step import Plan, Step


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Names are step keys (`quantize/Q4_K_M`), patterns of them (`kld/*`), or stages (`bench`)."""

    only: tuple[str, ...] = ()  # nothing: every step
    rerun: tuple[str, ...] = ()  # made again although the store has them


EVERYTHING = Choice()


def chosen(plan: Plan, only: Collection[str]) -> tuple[Step, ...]:
    """The steps named and all that they need, in the plan's order.

    Raises:
        UsageError: where a name means no step.

    """
    if not only:
        return plan.steps
    needed: set[str] = set()
    open_keys = list(named(plan, only))
    while open_keys:
        key = open_keys.pop()
        if key not in needed:
            needed.add(key)
            open_keys += needs(plan.step(key))
    return tuple(step for step in plan.steps if step.key in needed)


def named(plan: Plan, names: Collection[str]) -> frozenset[str]:
    """The keys of the steps that the names mean.

    Raises:
        UsageError: where a name means no step.

    """
    found = {name: [step.key for step in plan.steps if _means(name, step)] for name in names}
    unknown = [name for name, keys in found.items() if not keys]
    if unknown:
        raise _no_such_step(plan, unknown)
    return frozenset(key for keys in found.values() for key in keys)


def _means(name: str, step: Step) -> bool:
    return name in (step.key, step.stage.name) or fnmatchcase(step.key, name)


def _no_such_step(plan: Plan, unknown: list[str]) -> UsageError:
    known = [*(step.key for step in plan.steps), *{step.stage.name for step in plan.steps}]
    close = {near for name in unknown for near in difflib.get_close_matches(name, known, n=2)}
    return UsageError(
        f"no step is called {', '.join(map(repr, unknown))}",
        evidence=(f"steps: {', '.join(step.key for step in plan.steps)}",),
        hint=f"did you mean {' or '.join(sorted(close))}?" if close else None,
    )
