"""Which evaluation sets are run, and what a configuration can say of each."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt, StringConstraints, model_validator

from llamacpp_pipeline.config.hub_file import FileStem, HubFile, Sha256
from llamacpp_pipeline.datasets.layouts import Layout
from llamacpp_pipeline.datasets.rows import Container
from llamacpp_pipeline.datasets.task import Form
from llamacpp_pipeline.datasets.templates import TemplateName
from llamacpp_pipeline.stages.base import Frozen
from llamacpp_pipeline.stages.tasks import TaskCut

Url = Annotated[str, StringConstraints(pattern=r"^https?://\S+$")]


class TasksConfig(TaskCut):
    """The evaluation sets, which of their tasks, and how these are computed."""

    sets: Annotated[tuple[str, ...], Field(min_length=1)]
    n_tasks: PositiveInt | None = 750  # of each set; None: all
    seed: int = 1  # of the choice of tasks


class DatasetConfig(Frozen):
    """A set of one's own, or what is otherwise than the registry has it."""

    name: FileStem
    path: str | None = None  # relative to the YAML file
    hub: HubFile | None = None
    url: Url | None = None
    sha256: Sha256 | None = None  # of the file at `path` or `url`
    container: Container | None = None  # default: what the file's name tells
    layout: Layout | None = None
    form: Form | None = None
    template: TemplateName | None = None
    n_tasks: PositiveInt | None = None  # default: tasks.n_tasks
    title: str | None = None  # in tables; default: the name
    licence: str | None = None
    citation: str | None = None
    gated: bool = False  # its text must not be passed on
    consent: bool = False  # the terms of a gated set are accepted

    @model_validator(mode="after")
    def at_most_one_source(self) -> DatasetConfig:
        if sum(each is not None for each in (self.path, self.hub, self.url)) > 1:
            message = "give at most one of `path`, `hub` and `url`"
            raise ValueError(message)
        if self.sha256 is not None and self.path is None and self.url is None:
            message = "`sha256` goes with `path` or `url`; of a file on the Hub it is `hub.sha256`"
            raise ValueError(message)
        return self

    @property
    def has_source(self) -> bool:
        """Whether it says where the set comes from."""
        return (self.path, self.hub, self.url) != (None, None, None)
