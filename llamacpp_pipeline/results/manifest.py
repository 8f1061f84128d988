"""manifest.json: how every byte came about, so that it can be made and checked again."""

from __future__ import annotations

import json
import platform
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from pydantic import NonNegativeFloat, NonNegativeInt

from llamacpp_pipeline import __version__
from llamacpp_pipeline.errors import InputError
from llamacpp_pipeline.results.assemble import OWN_TEXT, timestamp
from llamacpp_pipeline.results.documented import Documented
from llamacpp_pipeline.results.files import PublishedFile, published_files
from llamacpp_pipeline.results.record import Machine, OutputFile, RecordedInput, StepRecord
from llamacpp_pipeline.results.redact import Redactor, redactor_of_this_machine
from llamacpp_pipeline.results.run import RunRecords, ToolchainFacts
from llamacpp_pipeline.stages.base import Placement

MANIFEST_SCHEMA: Literal[1] = 1
MANIFEST_NAME = "manifest.json"
PACKAGES = (
    "gguf", "huggingface_hub", "jinja2", "numpy", "pydantic", "safetensors", "torch",
    "transformers",
)  # fmt: skip


class ManifestStep(Documented):
    """One step, as its record has it."""

    key: str
    """Its name in the plan."""
    stage: str
    """What kind of step it is."""
    stage_version: int
    """Version of that stage's command line and reading."""
    fingerprint: str
    """Its identity: what made it."""
    made_by: str
    """binary, converter or pipeline."""
    made_by_id: str
    """BuildId of the binary, or the converter's id."""
    params: dict[str, Any]
    """Its parameters, defaults included."""
    labels: dict[str, str | int] = {}
    """Keys of ours in the metadata of what it made."""
    inputs: dict[str, RecordedInput]
    """Its inputs with their digests or fingerprints."""
    outputs: tuple[OutputFile, ...]
    """Every file it left, with its digest."""
    command: tuple[str, ...]
    """The command as run, relative to the step's folder."""
    placement: Placement
    """Where and how wide it ran; not part of its identity."""
    machine: Machine
    """The machine it ran on, without its name."""
    pipeline_version: str
    """Version of llamacpp-pipeline that ran it."""
    started: str
    """When, in UTC (ISO 8601)."""
    seconds: NonNegativeFloat
    """Wall time."""
    cpu_seconds: NonNegativeFloat
    """CPU time of the child and its descendants."""
    peak_rss_bytes: NonNegativeInt
    """Largest resident memory."""
    attempts: NonNegativeInt
    """How often it was started."""


class Manifest(Documented):
    """manifest.json."""

    schema_version: Literal[1] = MANIFEST_SCHEMA
    """Version of this document's form."""
    pipeline_version: str
    """Version of llamacpp-pipeline that wrote it."""
    created: str
    """When, in UTC (ISO 8601)."""
    name: str
    """The model's name."""
    versions: dict[str, str]
    """Python and the packages that take part; those not installed are absent."""
    toolchain: ToolchainFacts
    """The llama.cpp that was used."""
    config: dict[str, Any]
    """The configuration as resolved, defaults included."""
    steps: tuple[ManifestStep, ...]
    """Every finished step, in the plan's order."""
    files: tuple[PublishedFile, ...]
    """The files of the result folder."""
    incomplete: tuple[str, ...] = ()
    """Steps of the plan that did not finish."""


def run_manifest(
    run: RunRecords, *, created: datetime | None = None, redactor: Redactor | None = None
) -> Manifest:
    """How every file of a run came about."""
    manifest = Manifest(
        pipeline_version=__version__,
        created=timestamp(created),
        name=run.name,
        versions=versions(),
        toolchain=run.toolchain,
        config=run.config.model_dump(mode="json"),
        steps=tuple(
            _step(step.key, run.records[step.key])
            for step in run.plan.steps
            if step.key in run.records
        ),
        files=published_files(run),
        incomplete=run.missing(),
    )
    redactor = redactor or redactor_of_this_machine()
    return Manifest.model_validate(redactor.tree(manifest.model_dump(mode="json"), keep=OWN_TEXT))


def read_manifest(folder: Path) -> Manifest:
    """The manifest in a result folder.

    Raises:
        InputError: where there is none, or it cannot be read.

    """
    return manifest_from_file(folder / MANIFEST_NAME)


def manifest_from_file(path: Path) -> Manifest:
    """The manifest in a file.

    Raises:
        InputError: where there is none, or it has another form than this version reads.

    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(data, dict) and data.get("schema_version") != MANIFEST_SCHEMA:
            raise InputError(
                f"{path}: schema_version is {data.get('schema_version')!r}, this version reads"
                f" {MANIFEST_SCHEMA}",
                hint="use the version of llamacpp-pipeline named in its `pipeline_version`",
            )
        return Manifest.model_validate(data)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror})",
            hint="name a manifest.json that `llamacpp-pipeline run` wrote",
        ) from error
    except ValueError as error:
        raise InputError(
            f"{path}: not a manifest",
            evidence=str(error).splitlines()[:3],
            hint="name a manifest.json that `llamacpp-pipeline run` wrote",
        ) from error


def versions() -> dict[str, str]:
    """Python and the packages that take part, without importing them."""
    found = {package: _version(package) for package in PACKAGES}
    return {
        "python": platform.python_version(),
        **{package: version for package, version in found.items() if version is not None},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _step(key: str, record: StepRecord) -> ManifestStep:
    shared = set(ManifestStep.model_fields) & set(StepRecord.model_fields)
    return ManifestStep(key=key, **{name: getattr(record, name) for name in shared})
