"""The build: a BuildId that says what a binary is made of, and the making of it with Ninja."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llamacpp_pipeline.errors import ToolchainError
from llamacpp_pipeline.process.command import Command, Runner
from llamacpp_pipeline.process.runner import logged_output
from llamacpp_pipeline.toolchain.built import BUILD_RECORD, BuildRecord, BuiltFile, read_build
from llamacpp_pipeline.toolchain.compiler import Compilers
from llamacpp_pipeline.toolchain.export import PatchedTree
from llamacpp_pipeline.toolchain.flags import TARGETS, Definitions
from llamacpp_pipeline.toolchain.locks import locked
from llamacpp_pipeline.toolchain.places import Places, fresh, made
from llamacpp_pipeline.toolchain.programs import ask, needed, on_path
from llamacpp_pipeline.toolchain.talk import CounterWatcher, Talk
from llamacpp_pipeline.toolchain.tree import file_sha256, sha256_of

FORMAT = 1
PYPI_HINT = "make venv (or: pip install 'llamacpp-pipeline[build]')"
PASSED_ON = (
    *("CCACHE_DIR", "CCACHE_MAXSIZE", "SDKROOT", "DEVELOPER_DIR"),
    *("CUDA_PATH", "CUDA_HOME", "HIP_PATH", "ROCM_PATH", "VULKAN_SDK"),
)
FAULT = re.compile(r"\berror\b[: ]|^FAILED: |CMake Error|undefined reference|fatal:", re.IGNORECASE)
SHOWN_LINES = 8
NO_SPACE = re.compile(r"No space left on device")
KILLED = re.compile(r"Killed signal|fatal error: Killed")


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """Everything a build is made of. The first three make the BuildId."""

    tree: PatchedTree
    definitions: Definitions
    compilers: Compilers
    jobs: int | None = None
    note: str | None = None

    @property
    def build_id(self) -> str:
        """Digest of the patched tree, the definitions and the compilers' identity."""
        document = {
            "kind": "build",
            "format": FORMAT,
            "tree": self.tree.digest,
            "definitions": dict(self.definitions),
            "compilers": dict(self.compilers.identity),
            "targets": list(TARGETS),
        }
        return sha256_of(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())


def ensure_built(blueprint: Blueprint, places: Places, *, runner: Runner, talk: Talk) -> Path:
    """The folder of the finished build, which is made where there is none.

    Raises:
        ToolchainError: it failed; the compiler's own lines are the evidence.

    """
    build_id = blueprint.build_id
    folder = places.builds / build_id
    if read_build(folder, memos=places.memos) is not None:
        return folder
    lock = places.builds / "locks" / f"{build_id}.lock"
    with locked(lock, talk=talk, waiting="another process is building llama.cpp: waiting for it"):
        if read_build(folder, memos=places.memos) is None:
            _build(blueprint, folder, places, runner=runner, talk=talk)
    return folder


def _build(
    blueprint: Blueprint, folder: Path, places: Places, *, runner: Runner, talk: Talk
) -> None:
    work = places.builds / "work" / blueprint.build_id
    if folder.exists():
        talk.say("the build in the cache is damaged: it is made again")
        shutil.rmtree(folder)
    resumed = (work / "build.ninja").is_file()
    talk.say("going on with an unfinished build" if resumed else "building llama.cpp")
    try:
        _compile(blueprint, made(work), runner=runner, talk=talk)
    except ToolchainError:
        if not resumed:
            raise
        talk.say("the unfinished build cannot be continued: starting again")
        shutil.rmtree(work)
        _compile(blueprint, made(work), runner=runner, talk=talk)
    _publish(blueprint, work, folder)
    shutil.rmtree(work, ignore_errors=True)


def _compile(blueprint: Blueprint, work: Path, *, runner: Runner, talk: Talk) -> None:
    cmake = needed("cmake", hint=PYPI_HINT)
    ninja = needed("ninja", hint=PYPI_HINT)
    configure = (
        *(str(cmake), "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"),
        *("-S", str(blueprint.tree.folder), "-B", str(work)),
        *(f"-D{name}={value}" for name, value in _all_definitions(blueprint, work)),
    )
    jobs = blueprint.jobs or n_jobs()
    compile_all = (str(ninja), "-C", str(work), "-j", str(jobs), *TARGETS)
    for name, argv in (("configure", configure), ("build", compile_all)):
        log = work / f"{name}.log"
        command = Command(argv=argv, cwd=work, log=log, environment=_environment(blueprint))
        outcome = runner.run(command, CounterWatcher(talk))
        if outcome.exit_code != 0:
            raise _failure(name, log, outcome.exit_code)
    for target in TARGETS:
        _require_start(work / "bin" / target, runner=runner)


def n_jobs() -> int:
    """The CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _all_definitions(blueprint: Blueprint, work: Path) -> list[tuple[str, str]]:
    """The hashed ones, and those that only say where things are on this machine."""
    local = {
        "CMAKE_C_COMPILER": str(blueprint.compilers.c),
        "CMAKE_CXX_COMPILER": str(blueprint.compilers.cxx),
        "GGML_CCACHE": "OFF" if on_path(("ccache", "sccache")) is None else "ON",
    }
    if blueprint.definitions.get("GGML_CUDA") == "ON" and blueprint.compilers.backend:
        local["CMAKE_CUDA_COMPILER"] = str(blueprint.compilers.backend)
    # No path of this machine in the binaries: asserts carry the names of their files.
    places = ((blueprint.tree.folder, "."), (work, "build"))
    unnamed = shlex.join(f"-ffile-prefix-map={folder}={name}" for folder, name in places)
    for name in ("CMAKE_C_FLAGS", "CMAKE_CXX_FLAGS"):
        # CMake takes quotes off a value that begins and ends with one: it begins with a blank
        local[name] = f"{blueprint.definitions.get(name, '')} {unnamed}"
    return sorted({**local, **blueprint.definitions, **_flags_of(local)}.items())


def _flags_of(local: Mapping[str, str]) -> Mapping[str, str]:
    return {name: value for name, value in local.items() if name.endswith("_FLAGS")}


def _environment(blueprint: Blueprint) -> Mapping[str, str]:
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {
        **passed,
        "NINJA_STATUS": "[%f/%t] ",
        # llama.cpp's CMake asks git for a commit: a repository around the cache is not the one
        "GIT_CEILING_DIRECTORIES": str(blueprint.tree.folder.resolve().parent),
    }


def _require_start(binary: Path, *, runner: Runner) -> None:
    """A binary that cannot even print its help would fail in the middle of a run."""
    if not binary.is_file():
        raise ToolchainError(f"the build ended well but left no {binary.name}")
    answer = ask(runner, (str(binary), "--help"))
    if answer.exit_code < 0 or answer.exit_code > 1 or not answer.lines:
        raise ToolchainError(
            f"{binary.name} was built but does not start (exit {answer.exit_code})",
            evidence=answer.lines[-SHOWN_LINES:],
            hint="a GPU build needs the driver's libraries: `toolchain.backend: cpu` needs none",
        )


def _publish(blueprint: Blueprint, work: Path, folder: Path) -> None:
    """Binaries and logs into a staging folder, the record last, then one rename."""
    staged = fresh(folder.with_name(f".staging-{blueprint.build_id}"))
    made(staged / "bin")
    for target in TARGETS:
        shutil.copy(work / "bin" / target, staged / "bin" / target)
    for log in ("configure.log", "build.log"):
        shutil.copy(work / log, staged / log)
    files = {target: _built_file(staged / "bin" / target) for target in TARGETS}
    record = BuildRecord(
        build_id=blueprint.build_id,
        tree=blueprint.tree.digest,
        definitions=dict(blueprint.definitions),
        compilers=dict(blueprint.compilers.identity),
        note=blueprint.note,
        files=files,
    )
    (staged / BUILD_RECORD).write_text(record.model_dump_json(indent=1), encoding="utf-8")
    staged.rename(folder)


def _built_file(path: Path) -> BuiltFile:
    return BuiltFile(size_bytes=path.stat().st_size, sha256=file_sha256(path))


def _failure(name: str, log: Path, exit_code: int) -> ToolchainError:
    lines = logged_output(log).splitlines()
    faults = tuple(dict.fromkeys(line.strip() for line in lines if FAULT.search(line)))
    text = "\n".join(lines)
    what = "configuring llama.cpp" if name == "configure" else "building llama.cpp"
    return ToolchainError(
        f"{what} failed (exit {exit_code})",
        evidence=faults[:SHOWN_LINES] or tuple(lines[-SHOWN_LINES:]),
        log=log,
        hint=_hint(text),
    )


def _hint(text: str) -> str:
    if NO_SPACE.search(text):
        return "free some disk, or set LLAMACPP_PIPELINE_BUILDS to a folder on another one"
    if KILLED.search(text):
        return "the compiler was killed, probably out of memory: build with `--jobs 1`"
    return "llamacpp-pipeline doctor says what is missing; the log says the rest"
