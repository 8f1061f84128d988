"""StepRecord: what one step did, as JSON that others may rely on."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import NonNegativeFloat, NonNegativeInt

from llamacpp_pipeline.stages.base import Frozen, MadeBy, Placement

RECORD_SCHEMA = 1


class OutputFile(Frozen):
    """One file a step left. `name` is relative to the step's folder in the store."""

    output: str  # the stage's name for it; a folder output has several files
    name: str
    size_bytes: NonNegativeInt
    sha256: str


class RecordedInput(Frozen):
    kind: Literal["leaf", "step"]
    label: str  # a leaf's label, or "<stage>:<output>"
    digest: str  # a leaf's content digest, or the fingerprint of the step
    size_bytes: NonNegativeInt | None = None


class Machine(Frozen):
    hostless_name: str  # CPU model and core count; never the host's name
    system: str
    n_cores: int
    memory_bytes: int


class StepRecord(Frozen):
    """One finished step. Written last, so its presence means that the step is done."""

    schema_version: int = RECORD_SCHEMA
    fingerprint: str
    stage: str
    stage_version: int
    made_by: MadeBy
    made_by_id: str  # BuildId, the converter's id, or "" for this package's own tools
    toolchain_note: str | None = None  # set where the source is a user's own checkout
    params: dict[str, Any]
    labels: dict[str, str | int] = {}  # written into the metadata of what it made
    inputs: dict[str, RecordedInput]
    command: tuple[str, ...]  # as run, staging paths replaced by names
    placement: Placement
    machine: Machine
    pipeline_version: str
    started: str  # UTC, ISO 8601
    seconds: NonNegativeFloat
    cpu_seconds: NonNegativeFloat
    peak_rss_bytes: NonNegativeInt
    attempts: int = 1
    outputs: tuple[OutputFile, ...]
    result: dict[str, Any]  # the stage's Result, as JSON
