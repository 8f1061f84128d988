"""What a stage is: parameters in, a command, and a result read from what the command left."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, PositiveInt

from llamacpp_pipeline.errors import PipelineError

Argv = tuple[str, ...]
Paths = Mapping[str, Path]
Lane = Literal["device", "host", "alone"]
MadeBy = Literal["binary", "converter", "pipeline"]
SHARED = "shared"  # the name under which `argv` gets the folder of `shared_by`


class Frozen(BaseModel):
    """A value: immutable, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


ADDED_LATER = "added later"  # marks a parameter that is hashed only where it is not None:
# so that what was made before there was such a parameter keeps its fingerprint


class Placement(Frozen):
    """Where and how wide a step runs. Recorded, not hashed: it must not change a number."""

    n_threads: PositiveInt | None = None  # None: the number of physical cores
    n_gpu_layers: int | None = None  # None: llama.cpp decides (0 on a CPU build)
    extra: tuple[str, ...] = ()  # more flags for every llama.cpp tool that loads a model


@dataclass(frozen=True, kw_only=True)
class ProgressPattern:
    """How to read a tool's own counter: the last `done` match over the last `total` match.

    Both patterns have a group `n`; `total` may be None where the tool never says.
    """

    done: re.Pattern[str]
    total: re.Pattern[str] | None
    unit: str  # "chunk", "tensor", "file": what is counted
    before: re.Pattern[str] | None = None  # percent (group `n`) of a search before it counts


P = TypeVar("P", bound=Frozen)
R = TypeVar("R", bound=Frozen)


def no_placement(placement: Placement) -> Argv:
    """For tools that run where they are."""
    del placement
    return ()


def no_bytes(params: Frozen) -> None:
    """For stages whose outputs are too small to predict."""
    del params


def no_explanation(log: str) -> None:
    """For tools whose own error lines say enough."""
    del log


@dataclass(frozen=True, kw_only=True)
class Labels:
    """How a tool writes texts and whole numbers of ours into the metadata of what it makes.

    `flags` come before the tool's other arguments; `refuse_other` raises UnreadableOutputError
    where the file does not say what it was told to.
    """

    flags: Callable[[Mapping[str, str | int]], Argv]
    refuse_other: Callable[[Mapping[str, str | int], Paths], None]


@dataclass(frozen=True, kw_only=True)
class ToolStage(Generic[P, R]):
    """One kind of work: one child process, its inputs and outputs, and the proof of its result.

    `argv` receives the paths of all inputs and outputs by name and starts with `tool`. It may
    open the inputs to refuse what cannot work (InputError), so the paths must be ones that the
    caller can open; they reach the command line as they are.
    `parse` receives the child's merged output and the same paths; it raises
    UnreadableOutputError (or InputError) rather than returning anything partial.
    `read` is what the engine calls: `parse`, then `complete` for what only the parameters tell.
    `explain` receives the output of a child that failed; where it knows the cause it returns an
    error with the fix, to be raised (with the log's path) instead of a general one.
    `shared_by` names inputs: all steps of this stage that have these same inputs share a folder
    in the store, for what a tool may reuse but what never changes a result. With
    `shared_by_build` only those share it that are also of one version and one build.
    `take` is called when a child ended well, before its outputs are looked at: it puts there what
    the tool left in that folder.
    `tool` is a llama.cpp binary, "convert_hf_to_gguf", or a module of this package
    that is run as `python -m`. Such a module may run binaries in turn: it gets those that `calls`
    names as `--binary NAME PATH`, and is `made_by` "binary".
    `lane`: "device" measures one model and takes one device; "host" computes without a GPU;
    "alone" takes the whole machine.
    """

    name: str
    version: int  # bump when argv or parse changes meaning
    tool: str
    made_by: MadeBy
    inputs: frozenset[str]
    optional_inputs: frozenset[str] = frozenset()
    outputs: Mapping[str, str]  # output name -> file or folder name in the step's folder
    params: type[P]
    result: type[R]
    argv: Callable[[P, Paths], Argv]
    parse: Callable[[str, Paths], R]
    calls: frozenset[str] = frozenset()
    placement: Callable[[Placement], Argv] = no_placement
    complete: Callable[[P, R, Paths], R] | None = None
    explain: Callable[[str], PipelineError | None] = no_explanation
    progress: ProgressPattern | None = None
    lane: Lane = "alone"  # beside what it may run, where `placement.devices` names several
    machine_bound: bool = False  # its numbers are of this machine and placement: hash both
    shared_by: frozenset[str] = frozenset()
    shared_by_build: bool = False  # what is shared are numbers of the build
    take: Callable[[P, Paths], None] | None = None
    labels: Labels | None = None  # None: its files cannot be told anything
    environment: frozenset[str] = field(default_factory=frozenset)  # variables it may see

    def read(self, params: P, log: str, paths: Paths) -> R:
        """The result of a run with these parameters, from its output and its files.

        Raises:
            PipelineError: where the proof is missing.

        """
        result = self.parse(log, paths)
        return result if self.complete is None else self.complete(params, result, paths)
