"""Steps in an order in which they can run."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from llamacpp_pipeline.plan.order import PlanError, dependants, needs, ordered
from llamacpp_pipeline.plan.step import OutputRef, Step
from llamacpp_pipeline.stages import inspect
from tests.unit.plan.world import leaf


def step(key: str, *made: str, after: tuple[str, ...] = ()) -> Step:
    inputs = {f"in{at}": OutputRef(step=name, output="x") for at, name in enumerate(made)}
    return Step(
        key=key,
        stage=inspect.STAGE,
        params=inspect.InspectParams(),
        inputs={"leaf": leaf("a"), **inputs},
        after=after,
    )


def keys(graph: Mapping[str, tuple[str, ...]]) -> list[str]:
    return [s.key for s in ordered(step(key, *made) for key, made in graph.items())]


def test_steps_that_can_run_as_given_stay_as_given() -> None:
    assert keys({"b": (), "a": (), "c": ("b",), "d": ("a", "b")}) == ["b", "a", "c", "d"]


def test_what_a_step_needs_comes_before_it_and_the_rest_stays() -> None:
    assert keys({"c": ("a",), "b": (), "a": (), "d": ()}) == ["a", "c", "b", "d"]


def test_after_is_a_need_and_each_need_is_named_once() -> None:
    late = step("d", "a", "a", after=("b", "a"))

    assert needs(late) == ("a", "b")
    assert [s.key for s in ordered([late, step("a"), step("b")])] == ["a", "b", "d"]


def test_a_circle_is_named() -> None:
    with pytest.raises(PlanError, match="in a circle: b -> c -> d -> b"):
        keys({"a": ("b",), "b": ("c",), "c": ("d",), "d": ("b",)})


def test_a_need_that_is_no_step_is_named() -> None:
    with pytest.raises(PlanError, match="a needs b, which is no step of the plan"):
        keys({"a": ("b",)})


def test_a_key_used_twice_is_named() -> None:
    with pytest.raises(PlanError, match="two steps of one name: a"):
        ordered([step("a"), step("b"), step("a")])


def test_dependants_are_found_at_any_distance() -> None:
    steps = [step("a"), step("b", "a"), step("c"), step("d", "c", "b"), step("e", after=("d",))]

    assert dependants(steps, "a") == {"b", "d", "e"}
    assert dependants(steps, "e") == frozenset()
