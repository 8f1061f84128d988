"""A staging folder made ready: inputs linked under relative names, paths, command, outputs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from llamacpp_pipeline.engine.digests import sha256_of, sha256_of_text
from llamacpp_pipeline.engine.leaves import model_files
from llamacpp_pipeline.engine.store import LOG, RECORD, Entry
from llamacpp_pipeline.errors import PipelineError
from llamacpp_pipeline.plan.step import Leaf, OutputRef, Step
from llamacpp_pipeline.results.record import OutputFile, RecordedInput
from llamacpp_pipeline.stages.base import SHARED, Paths

INPUTS = "in"
FOLDER = "files"  # what a given folder is called, whatever its name: a name is not identity
RESERVED = frozenset({INPUTS, SHARED, LOG, RECORD})


@dataclass(frozen=True, kw_only=True)
class Supply:
    """One input of a step, as it lies on this machine."""

    source: Path  # the file or folder that is linked
    name: str  # of the link
    member: str | None  # what is meant inside it, where it is a folder
    recorded: RecordedInput
    files: tuple[Path, ...] = ()  # of a given folder: these and no others


def supplies(step: Step, entries: Mapping[str, Entry]) -> dict[str, Supply]:
    """The inputs of a step whose predecessors are in the store."""
    return {
        name: _from_leaf(value) if isinstance(value, Leaf) else _from_step(value, entries)
        for name, value in step.inputs.items()
    }


def laid_out(folder: Path, step: Step, inputs: Mapping[str, Supply]) -> Paths:
    """Link the inputs into `folder`; returns the paths of inputs and outputs by name.

    The links keep this machine's paths out of what the tools write about their inputs.
    """
    paths = {name: _linked(folder / INPUTS / name, supply) for name, supply in inputs.items()}
    for output, name in step.stage.outputs.items():
        if name in RESERVED or output in paths:
            message = f"{step.stage.name}: {output!r} ({name!r}) is taken by the engine"
            raise AssertionError(message)
        paths[output] = folder / name
    return paths


def shared_key(step: Step, inputs: Mapping[str, Supply], *, build: str) -> str | None:
    """Which shared folder of the store the step uses; None where its stage has none.

    By what the stage names alone: the folder holds what a tool checks before it reuses it.
    `build` is what the stage's tool is identified by.
    """
    stage = step.stage
    if not stage.shared_by:
        return None
    named = sorted(stage.shared_by & inputs.keys())
    same = {name: inputs[name].recorded.digest for name in named}
    made = [stage.version, build] if stage.shared_by_build else []
    return sha256_of_text(json.dumps([stage.name, same, *made]))


def with_shared(folder: Path, paths: Paths, shared: Path) -> Paths:
    """Link the shared folder into `folder`; returns the paths with it."""
    link = folder / SHARED
    link.symlink_to(shared, target_is_directory=True)
    return {**paths, SHARED: link}


def relative(argument: str, folder: Path) -> str:
    """An argument as seen from `folder`, where the child runs."""
    return argument.replace(f"{folder}/", "")


def output_files(folder: Path, step: Step) -> tuple[OutputFile, ...]:
    """Everything the step left as its outputs, with digests."""
    return tuple(
        OutputFile(
            output=output,
            name=file.relative_to(folder).as_posix(),
            size_bytes=file.stat().st_size,
            sha256=sha256_of(file),
        )
        for output, name in step.stage.outputs.items()
        for file in _files(folder / name)
    )


def missing_output(folder: Path, step: Step) -> str | None:
    """The first declared output that is not there or has nothing in it."""
    for name in step.stage.outputs.values():
        if not any(file.stat().st_size for file in _files(folder / name)):
            return name
    return None


def _from_leaf(leaf: Leaf) -> Supply:
    is_folder = leaf.path.is_dir()
    recorded = RecordedInput(
        kind="leaf", label=leaf.label, digest=leaf.digest, size_bytes=leaf.size_bytes
    )
    return Supply(
        source=leaf.path,
        name=FOLDER if is_folder else leaf.path.name,
        member=None,
        recorded=recorded,
        files=model_files(leaf.path) if is_folder else (),
    )


def _from_step(reference: OutputRef, entries: Mapping[str, Entry]) -> Supply:
    entry = entries[reference.step]
    meant = entry.path(reference.output, reference.member)
    source = entry.path(reference.output)
    label = f"{entry.record.stage}:{reference.output}"
    recorded = RecordedInput(
        kind="step",
        label=label if reference.member is None else f"{label}/{reference.member}",
        digest=entry.record.fingerprint,
        size_bytes=sum(file.stat().st_size for file in _files(meant)),
    )
    return Supply(source=source, name=source.name, member=reference.member, recorded=recorded)


def _linked(parent: Path, supply: Supply) -> Path:
    parent.mkdir(parents=True)
    link = parent / supply.name
    if supply.files:
        link.mkdir()
        for file in supply.files:
            (link / file.name).symlink_to(file.resolve())
    else:
        link.symlink_to(supply.source.resolve())
    return link if supply.member is None else link / supply.member


def _files(path: Path) -> Iterator[Path]:
    """The file, or all files of the folder in a fixed order."""
    found = sorted(path.rglob("*")) if path.is_dir() else [path]
    for file in found:
        if file.is_symlink():
            raise PipelineError(f"{file.name}: an output must be a file, not a link to one")
        if file.is_file():
            yield file
