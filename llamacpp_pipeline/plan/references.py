"""Other publishers' files in a plan: which there are, and the input that each is."""

from __future__ import annotations

from dataclasses import dataclass

from llamacpp_pipeline.config.hub_file import HubFile
from llamacpp_pipeline.config.schema import PipelineConfig, ReferenceConfig
from llamacpp_pipeline.plan.sources import Source, Sources
from llamacpp_pipeline.plan.step import Input, Leaf, OutputRef

FETCH = "fetch-reference"
CHECK = "reference-file"


@dataclass(frozen=True, kw_only=True)
class ReferenceFile:
    """One of them, with the keys of its steps."""

    name: str
    fetch: str  # key of the step that fetches it, where it comes from the Hub
    check: str  # key of the step that checks it: what uses the file runs after it
    source: Source
    hub: HubFile | None

    @property
    def file(self) -> Input:
        """The GGUF, as an input of any step."""
        if isinstance(self.source, Leaf):
            return self.source
        return OutputRef(
            step=self.fetch, output="files", member=None if self.hub is None else self.hub.file
        )


def references_of(config: PipelineConfig, sources: Sources) -> tuple[ReferenceFile, ...]:
    """Every reference of a configuration, in its order."""
    if len(sources.references) != len(config.references):
        found = len(sources.references) or "no"
        message = f"{found} reference was resolved, of {len(config.references)}"
        raise ValueError(message)
    pairs = zip(config.references, sources.references, strict=True)
    return tuple(_reference(asked, source) for asked, source in pairs)


def _reference(asked: ReferenceConfig, source: Source) -> ReferenceFile:
    return ReferenceFile(
        name=asked.name,
        fetch=f"{FETCH}/{asked.name}",
        check=f"{CHECK}/{asked.name}",
        source=source,
        hub=asked.hub,
    )
