"""The sets that a configuration may name: data, from registry.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, model_validator

from llamacpp_pipeline.datasets.layouts import Layout
from llamacpp_pipeline.datasets.rows import Container
from llamacpp_pipeline.datasets.task import Form
from llamacpp_pipeline.datasets.templates import TemplateName

REGISTRY = Path(__file__).with_name("registry.yaml")
DemoSet = Literal["passages", "names", "words"]


class _Known(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KnownHubFile(_Known):
    """A file of a dataset repository on the Hub; a pattern stands for several."""

    repo: str
    revision: str = "main"
    file: str


class KnownSource(_Known):
    """Where a set comes from."""

    hub: KnownHubFile | None = None
    url: str | None = None
    demo: DemoSet | None = None
    sha256: str | None = None

    @model_validator(mode="after")
    def exactly_one(self) -> KnownSource:
        if sum(each is not None for each in (self.hub, self.url, self.demo)) != 1:
            message = "give exactly one of `hub`, `url` and `demo`"
            raise ValueError(message)
        return self


class KnownCopy(_Known):
    """A file that people keep of a set, known by its content."""

    sha256: str
    container: Container
    layout: Layout


class KnownSet(_Known):
    """An evaluation set."""

    title: str
    form: Form
    template: TemplateName
    layout: Layout | None = None
    source: KnownSource | None = None
    combines: tuple[str, ...] = ()  # or the sets that it is made of
    copies: tuple[KnownCopy, ...] = ()
    gated: bool = False
    licence: str
    citation: str

    @model_validator(mode="after")
    def whole(self) -> KnownSet:
        if (self.source is None) != bool(self.combines) or (self.source is None) != (
            self.layout is None
        ):
            message = "give either `source` with its `layout`, or `combines`"
            raise ValueError(message)
        return self


class KnownTextFile(_Known):
    """A file of a dataset repository on the Hub, or a file inside it where it is a zip archive."""

    repo: str
    revision: str = "main"
    file: str
    member: str | None = None


class KnownText(_Known):
    """A text to measure on or to calibrate with."""

    title: str
    hub: KnownTextFile
    sha256: str | None = None
    column: str | None = None  # of a columnar file; None: its only column of texts
    licence: str
    citation: str


class _Registry(_Known):
    tasks: Mapping[str, KnownSet]
    texts: Mapping[str, KnownText]


@cache
def _registry() -> _Registry:
    read = yaml.safe_load(REGISTRY.read_text(encoding="utf-8"))
    return _Registry.model_validate(read)


def known_sets() -> Mapping[str, KnownSet]:
    """The evaluation sets, by name."""
    return _registry().tasks


def known_texts() -> Mapping[str, KnownText]:
    """The texts, by name."""
    return _registry().texts
