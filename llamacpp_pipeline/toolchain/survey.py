"""What this machine has of what the pipeline needs, and the command that mends each lack."""

from __future__ import annotations

import platform
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

from llamacpp_pipeline.errors import PipelineError
from llamacpp_pipeline.process.command import Runner
from llamacpp_pipeline.toolchain import upstream
from llamacpp_pipeline.toolchain.binaries import describe
from llamacpp_pipeline.toolchain.compiler import (
    BACKEND_COMPILERS,
    COMPILER_HINT,
    find_compilers,
)
from llamacpp_pipeline.toolchain.export import has_patched_tree
from llamacpp_pipeline.toolchain.flags import definitions
from llamacpp_pipeline.toolchain.places import Places
from llamacpp_pipeline.toolchain.programs import ask, beside_python, on_path
from llamacpp_pipeline.toolchain.series import GIT_HINT, read_series
from llamacpp_pipeline.toolchain.source import Choice, identify, is_cached
from llamacpp_pipeline.units import size_text

State = Literal["ok", "later", "optional", "missing"]
OLDEST_PYTHON = (3, 10)
OWN_PACKAGES = (
    "click",
    "gguf",
    "huggingface_hub",
    "jinja2",
    "numpy",
    "psutil",
    "pydantic",
    "pyyaml",
)
CONVERTER_PACKAGES = ("torch", "transformers", "safetensors", "sentencepiece", "protobuf")
BUILD_BYTES = 2 * 2**30  # source, patched copy, objects and binaries of a CPU build
VENV_HINT = "make venv"
BUILD_HINT = "llamacpp-pipeline build"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: State  # later: a command of this program brings it; missing: only the user can
    detail: str
    fix: str | None = None


def survey(choice: Choice, *, runner: Runner, places: Places) -> tuple[Finding, ...]:
    """Everything that a run needs, in the order in which it needs it."""
    return (
        _python(),
        _program("git", runner, fix=GIT_HINT),
        *_compilers(choice, runner),
        _program("cmake", runner, fix=VENV_HINT),
        _program("ninja", runner, fix=VENV_HINT),
        _ccache(),
        *(_package(name) for name in (*OWN_PACKAGES, *CONVERTER_PACKAGES)),
        _pyarrow(),
        *_source_and_build(choice, runner=runner, places=places),
        _disk(places),
    )


def _python() -> Finding:
    enough = sys.version_info >= OLDEST_PYTHON
    return Finding(
        name="Python",
        state="ok" if enough else "missing",
        detail=platform.python_version(),
        fix=None if enough else "make venv PYTHON=python3.12 (3.10 or later)",
    )


def _program(name: str, runner: Runner, *, fix: str) -> Finding:
    found = beside_python(name)
    if found is None:
        return Finding(name=name, state="missing", detail="not installed", fix=fix)
    answer = ask(runner, (str(found), "--version"))
    if answer.exit_code != 0 or not answer.lines:
        return Finding(name=name, state="missing", detail="does not start", fix=fix)
    return Finding(name=name, state="ok", detail=answer.lines[0].removeprefix(f"{name} "))


def _compilers(choice: Choice, runner: Runner) -> tuple[Finding, ...]:
    name = "C++ compiler"
    if choice.backend in BACKEND_COMPILERS:
        name = f"C++ compiler and {BACKEND_COMPILERS[choice.backend][0]}"
    try:
        defined = definitions(backend=choice.backend, flags=choice.flags, build_number=0, commit="")
        found = find_compilers(defined, choice.backend)
    except PipelineError as error:
        fix = error.hint or COMPILER_HINT
        return (Finding(name=name, state="missing", detail=error.message, fix=fix),)
    answer = ask(runner, (str(found.cxx), "--version"))
    detail = answer.lines[0] if answer.lines else found.cxx.name
    return (Finding(name=name, state="ok", detail=detail),)


def _ccache() -> Finding:
    found = on_path(("ccache", "sccache"))
    if found is None:
        return Finding(
            name="ccache",
            state="optional",
            detail="not installed: only makes a second build faster",
            fix="apt-get install ccache",
        )
    return Finding(name="ccache", state="ok", detail=found.name)


def _package(name: str) -> Finding:
    try:
        return Finding(name=name, state="ok", detail=metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(name=name, state="missing", detail="not installed", fix=VENV_HINT)


def _pyarrow() -> Finding:
    try:
        return Finding(name="pyarrow", state="ok", detail=metadata.version("pyarrow"))
    except metadata.PackageNotFoundError:
        return Finding(
            name="pyarrow",
            state="optional",
            detail="not installed: reads evaluation sets published as Parquet",
            fix="pip install 'llamacpp-pipeline[parquet]'",
        )


def _source_and_build(choice: Choice, *, runner: Runner, places: Places) -> tuple[Finding, ...]:
    """Nothing is fetched for this: what is not there yet is said to come."""
    try:
        source = identify(choice, places)
        series = read_series(places.patches)
        if not has_patched_tree(source, series, places):
            return (_source_to_come(places), _build_to_come())
        toolchain = describe(choice, runner=runner, places=places)
        built = toolchain.is_built
    except PipelineError as error:
        return (Finding(name="llama.cpp", state="missing", detail=error.message, fix=error.hint),)
    source_detail = f"{toolchain.commit}, {len(series.names)} patch(es) applied"
    source_finding = Finding(name="llama.cpp source", state="ok", detail=source_detail)
    if not built:
        return (source_finding, _build_to_come())
    detail = f"BuildId {toolchain.build_id[:12]}, {toolchain.backend}"
    return (source_finding, Finding(name="llama.cpp build", state="ok", detail=detail))


def _source_to_come(places: Places) -> Finding:
    here = is_cached(places)
    where = "here, not patched yet" if here else "will be fetched from GitHub or PyPI"
    detail = f"{upstream.SHORT_COMMIT}: {where}"
    return Finding(name="llama.cpp source", state="later", detail=detail, fix=BUILD_HINT)


def _build_to_come() -> Finding:
    return Finding(name="llama.cpp build", state="later", detail="not built yet", fix=BUILD_HINT)


def _disk(places: Places) -> Finding:
    folder = next(each for each in (places.builds, *places.builds.parents) if each.is_dir())
    free = shutil.disk_usage(folder).free
    enough = free >= BUILD_BYTES
    return Finding(
        name="disk for builds",
        state="ok" if enough else "missing",
        detail=f"{size_text(free)} free",
        fix=None
        if enough
        else f"free {size_text(BUILD_BYTES)}, or set LLAMACPP_PIPELINE_BUILDS to another disk",
    )
