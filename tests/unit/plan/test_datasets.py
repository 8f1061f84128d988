"""Evaluation sets in a plan: fetched, converted, known by what they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llamacpp_pipeline.config.task_sets import task_sets
from llamacpp_pipeline.datasets.registry import known_sets
from llamacpp_pipeline.errors import ConfigError
from llamacpp_pipeline.plan.datasets import index_of, tasks_of
from llamacpp_pipeline.plan.sources import HubCommit, Source
from llamacpp_pipeline.plan.step import Leaf, OutputRef, Plan
from llamacpp_pipeline.stages import fetch_url
from llamacpp_pipeline.stages.dataset import DatasetParams
from llamacpp_pipeline.stages.fetch import FetchParams
from llamacpp_pipeline.stages.fetch_url import FetchUrlParams
from tests.unit.plan import world

COMMIT = HubCommit(commit=world.COMMIT)
LOCAL = world.leaf("local.jsonl")


def planned(sources: dict[str, Source], **said: Any) -> Plan:  # noqa: ANN401
    return world.plan(replace(world.HERE, datasets=sources), **said)


def params(plan: Plan, key: str) -> DatasetParams:
    found = plan.step(key).params
    assert isinstance(found, DatasetParams)
    return found


def test_without_tasks_there_are_no_steps_for_sets() -> None:
    keys = [step.key for step in world.plan().steps]
    assert not [key for key in keys if "dataset" in key]


def test_a_set_on_the_hub_is_fetched_and_converted() -> None:
    plan = planned({"mmlu": COMMIT}, tasks={"sets": ["mmlu"]})
    assert plan.step("fetch-dataset/mmlu").params == FetchParams(
        repo="cais/mmlu",
        repo_type="dataset",
        commit=world.COMMIT,
        files=("all/test-00000-of-00001.parquet",),
    )
    step = plan.step("dataset/mmlu")
    assert step.inputs == {
        "source1": OutputRef(
            step="fetch-dataset/mmlu", output="files", member="all/test-00000-of-00001.parquet"
        )
    }
    found = params(plan, "dataset/mmlu")
    assert (found.form, found.n_tasks, found.seed) == ("multiple-choice", 750, 1)
    assert (found.template.name, found.template.version) == ("question-answer", 1)
    assert [(part.container, part.layout, part.label) for part in found.parts] == [
        ("parquet", "mmlu", "")
    ]


def test_a_combined_set_shares_the_fetches_of_its_parts() -> None:
    plan = planned(
        {"arc-easy": COMMIT, "arc-challenge": COMMIT}, tasks={"sets": ["arc", "arc-easy"]}
    )
    fetches = [step.key for step in plan.steps if step.key.startswith("fetch-dataset/")]
    assert sorted(fetches) == ["fetch-dataset/arc-challenge", "fetch-dataset/arc-easy"]
    assert [part.label for part in params(plan, "dataset/arc").parts] == [
        "arc-easy",
        "arc-challenge",
    ]
    assert set(plan.step("dataset/arc").inputs) == {"source1", "source2"}


def test_a_pattern_stands_for_the_files_of_a_folder() -> None:
    plan = planned({"mmlu-redux": COMMIT}, tasks={"sets": ["mmlu-redux"]})
    step = plan.step("dataset/mmlu-redux")
    assert step.inputs["source1"] == OutputRef(step="fetch-dataset/mmlu-redux", output="files")
    assert params(plan, "dataset/mmlu-redux").parts[0].pattern == "*.parquet"


def test_a_local_copy_is_told_by_its_digest() -> None:
    known = known_sets()["hellaswag"].copies[0]
    copy = replace(world.leaf("val_full.txt"), digest=known.sha256)
    said = [{"name": "hellaswag", "path": "val_full.txt"}]
    plan = planned({"hellaswag": copy}, tasks={"sets": ["hellaswag"]}, datasets=said)
    part = params(plan, "dataset/hellaswag").parts[0]
    assert (part.container, part.layout) == ("six-line", "task")
    assert plan.step("dataset/hellaswag").inputs == {"source1": copy}


@pytest.mark.parametrize(
    ("path", "said", "kind"),
    [
        pytest.param("a.jsonl", {}, ("jsonl", "hellaswag"), id="by-suffix"),
        pytest.param("a.txt", {}, ("six-line", "task"), id="ready-made"),
        pytest.param("a.dat", {"container": "json"}, ("json", "hellaswag"), id="as-said"),
        pytest.param("a.jsonl", {"layout": "task"}, ("jsonl", "task"), id="layout-as-said"),
    ],
)
def test_another_copy_is_told_by_its_name_or_by_what_is_said(
    path: str, said: dict[str, str], kind: tuple[str, str]
) -> None:
    own = [{"name": "hellaswag", "path": path, **said}]
    plan = planned({"hellaswag": LOCAL}, tasks={"sets": ["hellaswag"]}, datasets=own)
    part = params(plan, "dataset/hellaswag").parts[0]
    assert (part.container, part.layout) == kind


def test_a_copy_of_unknown_content_and_name_is_asked_about() -> None:
    own = [{"name": "hellaswag", "path": "a.dat"}]
    with pytest.raises(ConfigError, match=r"hellaswag: what a\.dat is cannot be told") as caught:
        planned({"hellaswag": LOCAL}, tasks={"sets": ["hellaswag"]}, datasets=own)
    assert caught.value.hint == "say what it is with `container`"


@pytest.mark.parametrize(
    ("said", "form", "template"),
    [
        pytest.param(
            {"path": "a.jsonl", "layout": "arc"}, "multiple-choice", "question-answer", id="arc"
        ),
        pytest.param(
            {"path": "a.jsonl", "layout": "task"}, "multiple-choice", "continuation", id="task"
        ),
        pytest.param(
            {"path": "a.jsonl", "layout": "winogrande"}, "winogrande", "continuation", id="wino"
        ),
        pytest.param({"path": "a.txt"}, "hellaswag", "continuation", id="six-line"),
        pytest.param({"path": "a.bin"}, "multiple-choice", "continuation", id="binary"),
        pytest.param(
            {"path": "a.csv", "container": "winogrande-csv"}, "winogrande", "continuation", id="csv"
        ),
        pytest.param(
            {"path": "a.csv", "layout": "gpqa", "template": "subject-question-answer"},
            *("multiple-choice", "subject-question-answer"),
            id="as-said",
        ),
    ],
)
def test_a_set_of_ones_own(said: dict[str, str], form: str, template: str) -> None:
    own = [{"name": "mine", "n_tasks": 10, **said}]
    plan = planned({"mine": LOCAL}, tasks={"sets": ["mine"], "seed": 7}, datasets=own)
    found = params(plan, "dataset/mine")
    assert (found.form, found.template.name) == (form, template)
    assert (found.n_tasks, found.seed) == (10, 7)


def test_a_file_of_the_web_is_fetched_by_its_address() -> None:
    own = [{"name": "mine", "url": "https://x.example/a.jsonl?v=1", "layout": "task"}]
    with pytest.raises(ValueError, match="cannot be told from its name"):
        planned({}, tasks={"sets": ["mine"]}, datasets=own)
    own = [{"name": "mine", "url": "https://x.example/a.jsonl", "layout": "task"}]
    plan = planned({}, tasks={"sets": ["mine"]}, datasets=own)
    step = plan.step("fetch-dataset/mine")
    assert step.stage is fetch_url.STAGE
    assert step.params == FetchUrlParams(url="https://x.example/a.jsonl")
    assert plan.step("dataset/mine").inputs == {
        "source1": OutputRef(step="fetch-dataset/mine", output="file")
    }


def test_what_scoring_takes_of_a_set() -> None:
    config = world.config(tasks={"sets": ["mmlu"]})
    (asked,) = task_sets(config)
    assert tasks_of(asked) == OutputRef(step="dataset/mmlu", output="tasks")
    assert index_of(asked) == OutputRef(step="dataset/mmlu", output="index")
    assert asked.citation is not None
    assert not asked.gated


def test_every_set_of_the_registry_expands() -> None:
    names = list(known_sets())
    parts = {name: LOCAL if known_sets()[name].layout == "task" else COMMIT for name in names}
    consent = [{"name": "gpqa-diamond", "consent": True}]
    plan = planned(parts, tasks={"sets": names}, datasets=consent)
    for name in names:
        step = plan.step(f"dataset/{name}")
        assert all(isinstance(value, (OutputRef, Leaf)) for value in step.inputs.values())
