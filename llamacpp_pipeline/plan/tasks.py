"""Task scores in a plan: each GGUF on each set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from llamacpp_pipeline.config.datasets import TasksConfig
from llamacpp_pipeline.config.task_sets import TaskSet, task_sets
from llamacpp_pipeline.plan.datasets import index_of, tasks_of
from llamacpp_pipeline.plan.step import Input, Step
from llamacpp_pipeline.stages.tasks import TaskCut, TasksParams

if TYPE_CHECKING:
    from llamacpp_pipeline.plan.expansion import Expansion

TASKS = "tasks"


def score_of(label: str, name: str) -> str:
    """The key of the step that scores a GGUF on a set."""
    return f"{TASKS}/{label}/{name}"


def task_steps(plan: Expansion, label: str, model: Input) -> Iterator[Step]:
    """One GGUF on every set that is asked for, one after the other."""
    asked = plan.config.tasks
    if asked is None:
        return
    for each in task_sets(plan.config):
        inputs = {"model": model, "tasks": tasks_of(each), "index": index_of(each)}
        yield plan.step(score_of(label, each.name), params=params(asked, each), inputs=inputs)


def params(asked: TasksConfig, each: TaskSet) -> TasksParams:
    """How a set is run."""
    cut = {name: getattr(asked, name) for name in TaskCut.model_fields}
    return TasksParams(form=each.form, **cut)
