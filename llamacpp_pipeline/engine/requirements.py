"""What data sets need that a program cannot give itself, asked for before anything runs."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from llamacpp_pipeline.config.schema import PipelineConfig
from llamacpp_pipeline.config.task_sets import task_sets
from llamacpp_pipeline.datasets.rows import COLUMNAR, PYARROW_HINT, Container, has_pyarrow
from llamacpp_pipeline.errors import ConfigError
from llamacpp_pipeline.plan.datasets import DATASET, FETCH
from llamacpp_pipeline.plan.step import Step
from llamacpp_pipeline.plan.texts import TEXT
from llamacpp_pipeline.stages.dataset import DatasetParams
from llamacpp_pipeline.stages.fetch import FetchParams
from llamacpp_pipeline.stages.fetch_url import FetchUrlParams
from llamacpp_pipeline.stages.hub import Repo, has_token, is_cached
from llamacpp_pipeline.stages.text import TextParams


def is_of_a_set(step: Step) -> bool:
    """Whether it fetches or converts an evaluation set, or makes a text of rows."""
    return step.key.partition("/")[0] in (FETCH, DATASET, TEXT)


def refuse_unmet(config: PipelineConfig, todo: Collection[Step], *, offline: bool) -> None:
    """Refuse steps of evaluation sets that could not fetch or read what they are to.

    Raises:
        ConfigError: naming every set and what it lacks.

    """
    gated = {part.name for s in task_sets(config) for part in s.parts if part.gated}
    lacks = (
        *pyarrow_lacking(todo),
        *tokens_lacking(todo, gated),
        *(unreachable(todo) if offline else ()),
    )
    if lacks:
        raise ConfigError(
            "data sets need what is not here",
            evidence=[f"{name}: {what}" for name, what, _ in lacks],
            hint="; ".join(dict.fromkeys(fix for *_, fix in lacks)),
        )


Lack = tuple[str, str, str]  # the set, what it lacks, the fix


def pyarrow_lacking(todo: Collection[Step]) -> Iterator[Lack]:
    """Sets and texts in columnar files, where nothing here reads them."""
    for step in todo if not has_pyarrow() else ():
        found = [container for container in containers(step) if container in COLUMNAR]
        if found:
            name = step.key.partition("/")[2]
            yield name, f"reading {found[0]} needs pyarrow", PYARROW_HINT


def containers(step: Step) -> tuple[Container, ...]:
    """What the files are that a step reads."""
    if isinstance(step.params, DatasetParams):
        return tuple(part.container for part in step.params.parts)
    return (step.params.container,) if isinstance(step.params, TextParams) else ()


def tokens_lacking(todo: Collection[Step], gated: Collection[str]) -> Iterator[Lack]:
    """Gated sets to fetch, without a token that could show the consent."""
    for step in todo:
        name = set_of(step)
        if name in gated and isinstance(step.params, FetchParams) and not has_token():
            fix = f"accept the terms on the page of {step.params.repo} and set HF_TOKEN"
            yield name, "it is gated, and there is no token of yours", fix


def unreachable(todo: Collection[Step]) -> Iterator[Lack]:
    """Sets to fetch, of which nothing is at hand."""
    for step in todo:
        name, params = set_of(step), step.params
        fix = f"run once with the network, or `datasets: [{{name: {name}, path: FILE}}]`"
        if isinstance(params, FetchUrlParams):
            yield name, f"offline, and {params.url} is not at hand", fix
        if isinstance(params, FetchParams):
            repo = Repo(name=params.repo, kind=params.repo_type, commit=params.commit)
            if not all(is_cached(repo, pattern) for pattern in params.files):
                yield name, f"offline, and {params.files[0]} of {params.repo} is not at hand", fix


def set_of(step: Step) -> str:
    """The set that a step fetches, or nothing."""
    before, _, name = step.key.partition("/")
    return name if before == FETCH else ""
