"""Steps in an order in which they can run: stable, and a circle is named."""

from __future__ import annotations

from collections.abc import Iterable

from llamacpp_pipeline.errors import ConfigError
from llamacpp_pipeline.plan.step import OutputRef, Step


class PlanError(ConfigError):
    """Steps that cannot be put in an order: our own mistake, or a circle a user drew."""


def needs(step: Step) -> tuple[str, ...]:
    """The steps that must have run before this one, each once."""
    made = (value.step for value in step.inputs.values() if isinstance(value, OutputRef))
    return tuple(dict.fromkeys((*made, *step.after)))


def ordered(steps: Iterable[Step]) -> tuple[Step, ...]:
    """The steps, each after all it needs; those that need not move stay as they are given.

    Raises:
        PlanError: naming a circle, a step that is needed but absent, or a key used twice.

    """
    given = tuple(steps)
    by_key = {step.key: step for step in given}
    if len(by_key) < len(given):
        twice = sorted({s.key for s in given if sum(s.key == o.key for o in given) > 1})
        message = f"two steps of one name: {', '.join(twice)}"
        raise PlanError(message)
    done: dict[str, Step] = {}
    for step in given:
        visit(step, by_key=by_key, done=done, path=())
    return tuple(done.values())


def visit(
    step: Step, *, by_key: dict[str, Step], done: dict[str, Step], path: tuple[str, ...]
) -> None:
    """Put what a step needs into `done`, then the step."""
    if step.key in done:
        return
    if step.key in path:
        circle = " -> ".join((*path[path.index(step.key) :], step.key))
        message = f"the steps need each other in a circle: {circle}"
        raise PlanError(message)
    for key in needs(step):
        if key not in by_key:
            message = f"{step.key} needs {key}, which is no step of the plan"
            raise PlanError(message)
        visit(by_key[key], by_key=by_key, done=done, path=(*path, step.key))
    done[step.key] = step


def dependants(steps: Iterable[Step], key: str) -> frozenset[str]:
    """The steps that cannot be done where `key` failed, at any distance."""
    lost = {key}
    for step in ordered(steps):
        if lost.intersection(needs(step)):
            lost.add(step.key)
    return frozenset(lost - {key})
