"""Evaluation sets in a plan: what is fetched, what is converted, and what scoring takes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from llamacpp_pipeline.config.hub_file import HubFile
from llamacpp_pipeline.config.task_sets import SetPart, TaskSet, task_sets
from llamacpp_pipeline.datasets.layouts import Layout
from llamacpp_pipeline.datasets.rows import READY, Container, container_of
from llamacpp_pipeline.errors import ConfigError
from llamacpp_pipeline.plan.sources import HubCommit, Source
from llamacpp_pipeline.plan.step import Input, Leaf, OutputRef, Step
from llamacpp_pipeline.stages import fetch_url
from llamacpp_pipeline.stages.dataset import DatasetParams, PartParams, source_name
from llamacpp_pipeline.stages.fetch import FetchParams
from llamacpp_pipeline.stages.fetch_url import FetchUrlParams

if TYPE_CHECKING:
    from llamacpp_pipeline.plan.expansion import Expansion

FETCH = "fetch-dataset"
DATASET = "dataset"
WILD = frozenset("*?[")


def step_of(name: str) -> str:
    """The key of the step that converts a set."""
    return f"{DATASET}/{name}"


def tasks_of(asked: TaskSet) -> OutputRef:
    """The file that llama-perplexity reads, in the set's form."""
    return OutputRef(step=step_of(asked.name), output="tasks")


def index_of(asked: TaskSet) -> OutputRef:
    """What is known of each of its tasks (datasets/index.py)."""
    return OutputRef(step=step_of(asked.name), output="index")


def dataset_steps(plan: Expansion) -> Iterator[Step]:
    """Fetching and converting every set that is asked for.

    Raises:
        ConfigError: where it cannot be told what a file is.

    """
    fetched: set[str] = set()
    for asked in task_sets(plan.config):
        for part in asked.parts:
            if part.name not in fetched:
                yield from fetching(plan, part)
            fetched.add(part.name)
        yield conversion(plan, asked)


def fetching(plan: Expansion, part: SetPart) -> Iterator[Step]:
    """The step that fetches one part, where it is not at hand."""
    key, source = f"{FETCH}/{part.name}", plan.sources.datasets.get(part.name)
    if part.url is not None:
        params = FetchUrlParams(url=part.url, sha256=part.sha256)
        yield replace(plan.step(key, params=params, inputs={}), stage=fetch_url.STAGE)
    if isinstance(source, HubCommit) and part.hub is not None:
        yield plan.step(key, params=from_hub(part.hub, source), inputs={})


def from_hub(hub: HubFile, source: HubCommit) -> FetchParams:
    """The files of a part at a commit."""
    return FetchParams(
        repo=hub.repo,
        repo_type=hub.repo_type,
        commit=source.commit,
        files=(hub.file,),
        member=hub.member,
        sha256=hub.sha256,
    )


def conversion(plan: Expansion, asked: TaskSet) -> Step:
    """One set to the file of its chosen tasks."""
    sources = plan.sources.datasets
    params = DatasetParams(
        name=asked.name,
        form=asked.form,
        template=asked.template,
        parts=tuple(part_params(part, sources.get(part.name)) for part in asked.parts),
        n_tasks=asked.n_tasks,
        seed=asked.seed,
    )
    inputs = {
        source_name(at): part_input(part, sources.get(part.name))
        for at, part in enumerate(asked.parts)
    }
    return plan.step(step_of(asked.name), params=params, inputs=inputs)


def part_params(part: SetPart, source: Source | None) -> PartParams:
    """What a part's file is.

    Raises:
        ConfigError: where it cannot be told.

    """
    container, layout = kind_of(part, source)
    pattern = None if part.hub is None or not several(part) else part.hub.file.rpartition("/")[2]
    return PartParams(
        label=part.label,
        pattern=pattern,
        container=container,
        layout=layout,
        sha256=part.sha256,
    )


def part_input(part: SetPart, source: Source | None) -> Input:
    """A part's file or folder."""
    if isinstance(source, Leaf):
        return source
    if part.url is not None:
        return OutputRef(step=f"{FETCH}/{part.name}", output="file")
    member = None if part.hub is None or several(part) else part.hub.unpacked
    return OutputRef(step=f"{FETCH}/{part.name}", output="files", member=member)


def several(part: SetPart) -> bool:
    """Whether it is the files that match a pattern."""
    return part.hub is not None and part.hub.member is None and bool(WILD & set(part.hub.file))


def kind_of(part: SetPart, source: Source | None) -> tuple[Container, Layout]:
    """What the file is: as said, else as its digest tells, else as its name does.

    Raises:
        ConfigError: where neither tells.

    """
    known = next(
        (c for c in part.copies if isinstance(source, Leaf) and c.sha256 == source.digest), None
    )
    if known is not None and part.container is None:
        return known.container, known.layout
    container = part.container or container_of(part.file_name)
    if container is None:
        raise ConfigError(
            f"{part.name}: what {part.file_name} is cannot be told from its name or content",
            hint="say what it is with `container`",
        )
    layout = "task" if container in READY else part.layout
    if layout is None:
        raise ConfigError(
            f"{part.name}: {part.file_name} needs a word on its columns",
            hint="say which they are with `layout`",
        )
    return container, layout
