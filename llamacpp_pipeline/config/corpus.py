"""A text that the configuration names."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from llamacpp_pipeline.config.hub_file import HubFile, text_on_hub
from llamacpp_pipeline.config.spelling import did_you_mean
from llamacpp_pipeline.datasets.registry import known_texts
from llamacpp_pipeline.datasets.rows import COLUMNAR, Container, container_of
from llamacpp_pipeline.stages.base import Frozen


class CorpusConfig(Frozen):
    """A text: a local file, a file on the Hub, one of the registry's, or of the demo's."""

    path: str | None = None  # relative to the YAML file
    hub: HubFile | None = None
    dataset: str | None = None  # a text that the registry knows
    demo: Literal["calibration", "evaluation", "probe", "selection"] | None = None
    column: str | None = None  # of a Parquet or Arrow file; default: the only one with text

    @model_validator(mode="after")
    def exactly_one_source(self) -> CorpusConfig:
        named = (self.path, self.hub, self.dataset, self.demo)
        if sum(value is not None for value in named) != 1:
            message = "give exactly one of `path`, `hub`, `dataset` and `demo`"
            raise ValueError(message)
        if self.dataset is not None and self.dataset not in known_texts():
            near = did_you_mean(self.dataset, known_texts())
            known = ", ".join(known_texts())
            message = f"no text is named {self.dataset}{near}: the registry has {known}"
            raise ValueError(message)
        if self.column is not None and self.container is None:
            message = "`column` is for Parquet and Arrow files"
            raise ValueError(message)
        return self

    @property
    def on_hub(self) -> HubFile | None:
        """The file on the Hub, where it is one."""
        return self.hub if self.dataset is None else text_on_hub(known_texts()[self.dataset])

    @property
    def container(self) -> Container | None:
        """What the text is to be taken out of; None where the file is the text."""
        hub = self.on_hub
        found = container_of(self.path or (hub.unpacked if hub is not None else ""))
        return found if found in COLUMNAR else None

    def same_text(self, other: CorpusConfig) -> bool:
        """Whether both visibly name one text."""
        ours, theirs = self.on_hub, other.on_hub
        if ours is not None and theirs is not None:
            return (ours.repo, ours.file, ours.member) == (theirs.repo, theirs.file, theirs.member)
        return (ours, self.path, self.demo) == (theirs, other.path, other.demo)
