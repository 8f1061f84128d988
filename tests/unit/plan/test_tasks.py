"""Task scores in a plan: every file on every set, under one set of conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from pydantic import ValidationError

from llamacpp_pipeline.plan.budget import budget
from llamacpp_pipeline.plan.fingerprint import fingerprints
from llamacpp_pipeline.plan.sources import Source
from llamacpp_pipeline.plan.step import OutputRef, Plan
from llamacpp_pipeline.stages.tasks import TasksParams
from tests.unit.plan.world import HERE, QWEN_9B, config, identity, leaf, plan

SETS = {"demo-passages": "hellaswag", "demo-names": "winogrande"}
FILES: Mapping[str, Source] = {name: leaf(f"{name}.jsonl") for name in SETS}
SOURCES = replace(HERE, datasets=FILES)


def scored(**said: object) -> Plan:
    return plan(SOURCES, tasks={"sets": list(SETS), **said})


def test_every_file_is_scored_on_every_set_the_reference_too() -> None:
    keys = [step.key for step in scored().steps if step.stage.name == "tasks"]

    assert keys == [
        f"tasks/{label}/{name}" for label in ("reference", "Q8_0", "Q4_K_M") for name in SETS
    ]


def test_what_is_measured_of_one_file_stands_together() -> None:
    keys = [step.key for step in scored().steps]
    first = keys.index("quantize/Q8_0")

    assert keys[first : first + 5] == [
        "quantize/Q8_0", "kld/Q8_0", "bench/Q8_0",
        "tasks/Q8_0/demo-passages", "tasks/Q8_0/demo-names",
    ]  # fmt: skip


@pytest.mark.parametrize("name", list(SETS))
def test_a_score_takes_the_chosen_tasks_and_their_index(name: str) -> None:
    step = scored().step(f"tasks/Q4_K_M/{name}")

    assert step.inputs == {
        "model": OutputRef(step="quantize/Q4_K_M", output="gguf"),
        "tasks": OutputRef(step=f"dataset/{name}", output="tasks"),
        "index": OutputRef(step=f"dataset/{name}", output="index"),
    }
    assert step.params == TasksParams.model_validate({"form": SETS[name]})


def test_how_tasks_are_computed_is_said_once_for_all() -> None:
    made = scored(n_ctx=1024, n_parallel=8, n_batch=512, n_ubatch=256, flash_attn="off")

    params = {
        str(s.params) for s in made.steps if s.key.endswith("/demo-names") and "tasks/" in s.key
    }
    assert params == {
        "n_ctx=1024 n_parallel=8 n_batch=512 n_ubatch=256 flash_attn='off' form='winogrande'"
    }


def test_the_context_is_that_of_the_published_cards() -> None:
    asked = config(tasks={"sets": ["hellaswag"]}).tasks

    assert asked is not None
    assert (asked.n_tasks, asked.n_ctx) == (750, 768)


@pytest.mark.parametrize(
    ("said", "changed"),
    [
        pytest.param({"seed": 2}, True, id="another-choice"),
        pytest.param({"n_tasks": 10}, True, id="fewer-tasks"),
        pytest.param({"n_ctx": 512}, True, id="another-context"),
        pytest.param({}, False, id="as-it-was"),
    ],
)
def test_what_can_change_a_score_is_part_of_its_identity(
    said: dict[str, int], *, changed: bool
) -> None:
    key = "tasks/Q8_0/demo-passages"
    before = fingerprints(scored(), identity=identity, machine="one")
    after = fingerprints(scored(**said), identity=identity, machine="two")

    assert (before[key] != after[key]) is changed
    assert before["kld/Q8_0"] == after["kld/Q8_0"]


def test_the_memory_of_the_context_is_predicted() -> None:
    sources = replace(SOURCES, hints=QWEN_9B)
    made = plan(sources, tasks={"sets": list(SETS)})

    step = next(s for s in budget(made, sources).steps if s.key == "tasks/reference/demo-names")
    model = next(s for s in budget(made, sources).steps if s.key == "convert").output_bytes
    assert model is not None
    assert step.memory_bytes == model + (4 * 768 + 2048) * 248_320 * 4


def test_without_sets_nothing_is_scored() -> None:
    assert not [step for step in plan().steps if step.stage.name in {"tasks", "dataset"}]


@pytest.mark.parametrize("field", ["n_ctx", "n_parallel"])
def test_a_cut_that_cannot_be_is_refused(field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        config(tasks={"sets": ["hellaswag"], field: 0})
