"""Toolchain: what a plan is made by, and which program stands for each tool's name."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from llamacpp_pipeline.errors import ToolchainError
from llamacpp_pipeline.process.command import Runner
from llamacpp_pipeline.process.runner import LocalRunner
from llamacpp_pipeline.toolchain import converter
from llamacpp_pipeline.toolchain.build import Blueprint, ensure_built
from llamacpp_pipeline.toolchain.built import read_build
from llamacpp_pipeline.toolchain.compiler import cuda_architectures, identify_compilers
from llamacpp_pipeline.toolchain.export import patched_tree
from llamacpp_pipeline.toolchain.flags import BACKEND_OPTIONS, TARGETS, Definitions, definitions
from llamacpp_pipeline.toolchain.places import Places
from llamacpp_pipeline.toolchain.series import read_series
from llamacpp_pipeline.toolchain.source import Choice, Source, identify
from llamacpp_pipeline.toolchain.talk import SILENCE, Talk

CONVERTER = "convert_hf_to_gguf"
ENTRY = "llamacpp_pipeline.toolchain.convert_entry"
PACKAGE = "llamacpp_pipeline."
CUDA_ARCHITECTURES = "CMAKE_CUDA_ARCHITECTURES"


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """One llama.cpp, patched and configured; its binaries may still have to be built."""

    blueprint: Blueprint
    places: Places
    commit: str  # upstream's, or "local" for a user's own checkout
    build_number: int

    @property
    def build_id(self) -> str:
        """What the binaries are known by."""
        return self.blueprint.build_id

    @property
    def source_digest(self) -> str:
        """What the patched tree is known by."""
        return self.blueprint.tree.digest

    @property
    def source_dir(self) -> Path:
        """The patched tree."""
        return self.blueprint.tree.folder

    @property
    def note(self) -> str | None:
        """Stands in every record: the source is a user's own checkout."""
        return self.blueprint.note

    @property
    def backend(self) -> str:
        """cpu, cuda, metal, vulkan or hip."""
        on = (name for name, option in BACKEND_OPTIONS.items() if self.definitions[option] == "ON")
        return next(on, "cpu")

    @property
    def definitions(self) -> Definitions:
        """The CMake definitions that are part of the BuildId."""
        return self.blueprint.definitions

    @property
    def folder(self) -> Path:
        """Of the finished build: bin/, logs, build.json."""
        return self.places.builds / self.build_id

    @property
    def bin_dir(self) -> Path:
        """Of the binaries, which may not be there yet."""
        return self.folder / "bin"

    @property
    def is_built(self) -> bool:
        """Whether the binaries are there and are those that were built."""
        return read_build(self.folder, memos=self.places.memos) is not None

    def prefix(self, tool: str) -> tuple[str, ...]:
        """What stands for a stage's tool name at the head of its command."""
        if tool in TARGETS:
            return (str(self.bin_dir / tool),)
        if tool == CONVERTER:
            return (sys.executable, "-m", ENTRY, str(self.source_dir))
        if tool.startswith(PACKAGE):
            return (sys.executable, "-m", tool)
        raise ToolchainError(
            f"{tool} is not a tool of this build", evidence=(f"there are {', '.join(TARGETS)}",)
        )

    def identity(self, made_by: Literal["binary", "converter", "pipeline"]) -> str:
        """What a step of that kind is made by: enters its fingerprint.

        Raises:
            ToolchainError: the converter's packages are missing.

        """
        if made_by == "binary":
            return self.build_id
        if made_by == "converter":
            return converter.converter_id(converter.sources_digest(self.blueprint.tree.manifest))
        return ""


def describe(
    choice: Choice,
    *,
    runner: Runner | None = None,
    talk: Talk = SILENCE,
    places: Places | None = None,
) -> Toolchain:
    """The toolchain a config means, without building it.

    The first time this may fetch the source and patch it; afterwards it only checks.
    A relative `toolchain.path` starts from the current folder.

    Raises:
        ToolchainError: source, patches or compiler cannot be used.

    """
    runner = runner or LocalRunner()
    places = places or Places.from_environment()
    source = identify(choice, places)
    series = read_series(places.patches)
    tree = patched_tree(source, series, choice, places, runner=runner, talk=talk)
    defined = _definitions(choice, source, runner)
    compilers = identify_compilers(defined, choice.backend, places, runner=runner)
    return Toolchain(
        blueprint=Blueprint(
            tree=tree,
            definitions=defined,
            compilers=compilers,
            jobs=choice.jobs,
            note=source.note,
        ),
        places=places,
        commit=source.commit,
        build_number=source.build_number,
    )


def ensure(
    choice: Choice,
    *,
    runner: Runner | None = None,
    talk: Talk = SILENCE,
    places: Places | None = None,
) -> Toolchain:
    """The toolchain a config means, with its binaries built.

    Raises:
        ToolchainError: source, patches, compiler or build failed.

    """
    runner = runner or LocalRunner()
    toolchain = describe(choice, runner=runner, talk=talk, places=places)
    built(toolchain, runner=runner, talk=talk)
    return toolchain


def built(toolchain: Toolchain, *, runner: Runner, talk: Talk = SILENCE) -> Toolchain:
    """The same toolchain, its binaries built."""
    ensure_built(toolchain.blueprint, toolchain.places, runner=runner, talk=talk)
    return toolchain


def with_jobs(toolchain: Toolchain, jobs: int | None) -> Toolchain:
    """The same toolchain, built by so many compilers at a time. The BuildId stays."""
    if jobs is None:
        return toolchain
    return replace(toolchain, blueprint=replace(toolchain.blueprint, jobs=jobs))


def _definitions(choice: Choice, source: Source, runner: Runner) -> Definitions:
    defined = definitions(
        backend=choice.backend,
        flags=choice.flags,
        build_number=source.build_number,
        commit=source.commit,
    )
    if choice.backend != "cuda" or CUDA_ARCHITECTURES in defined:
        return defined
    found = cuda_architectures(runner)
    return defined if found is None else {**defined, CUDA_ARCHITECTURES: found}
