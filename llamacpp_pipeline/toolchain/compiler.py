"""Which compilers a build uses, and what they are known by: part of the BuildId.

No path and no host enters: two machines with the same compiler and the same instruction set
get the same BuildId.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llamacpp_pipeline.errors import ToolchainError
from llamacpp_pipeline.process.command import Runner
from llamacpp_pipeline.toolchain.flags import Backend, Definitions, is_on
from llamacpp_pipeline.toolchain.places import Places, write_whole
from llamacpp_pipeline.toolchain.programs import ask, on_path
from llamacpp_pipeline.toolchain.tree import sha256_of

COMPILER_HINT = "apt-get install g++ (macOS: xcode-select --install), or name one in CC and CXX"
CUDA_HINT = "install the CUDA toolkit and put its nvcc on PATH (or name it in CUDACXX)"
BACKEND_COMPILERS: Mapping[str, tuple[str, str]] = {
    "cuda": ("nvcc", CUDA_HINT),
    "hip": ("hipcc", "install ROCm's HIP compiler and put hipcc on PATH"),
    "vulkan": ("glslc", "apt-get install glslc libvulkan-dev"),
}
CUDA_FOLDERS = ("/usr/local/cuda/bin", "/opt/cuda/bin")
NATIVE_FLAGS = ("-march=native", "-mcpu=native")
MACROS = ("-dM", "-E", "-x", "c++", os.devnull)
CPU_LINES = re.compile(r"^(?:model name|flags|Features|CPU part)\s*:.*$", re.MULTILINE)
CAPABILITY = re.compile(r"^(\d+)\.(\d+)$", re.MULTILINE)
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Compilers:
    """The compilers of one build. Paths are used, never hashed; `identity` is hashed."""

    c: Path
    cxx: Path
    backend: Path | None
    identity: Mapping[str, str]


def find_compilers(definitions: Definitions, backend: Backend) -> Compilers:
    """Where the compilers are; their identity is not known yet.

    Raises:
        ToolchainError: one is missing.

    """
    c = _chosen(definitions.get("CMAKE_C_COMPILER"), "CC", ("cc", "gcc", "clang"))
    cxx = _chosen(definitions.get("CMAKE_CXX_COMPILER"), "CXX", ("c++", "g++", "clang++"))
    return Compilers(c=c, cxx=cxx, backend=_backend_compiler(definitions, backend), identity={})


def identify_compilers(
    definitions: Definitions, backend: Backend, places: Places, *, runner: Runner
) -> Compilers:
    """The compilers and what they are known by; asked once, then remembered.

    Raises:
        ToolchainError: one is missing or does not answer.

    """
    found = find_compilers(definitions, backend)
    native = is_on(definitions.get("GGML_NATIVE", "OFF"))
    stamp = _stamp(found, native=native)
    memo = places.memos / f"compilers-{stamp}.json"
    identity = _remembered(memo)
    if identity is None:
        identity = _asked(found, native=native, runner=runner)
        write_whole(memo, json.dumps(identity, indent=1))
    return Compilers(c=found.c, cxx=found.cxx, backend=found.backend, identity=identity)


def cuda_architectures(runner: Runner) -> str | None:
    """The compute capabilities of this machine's GPUs, as CMAKE_CUDA_ARCHITECTURES has them."""
    program = on_path(("nvidia-smi",))
    if program is None:
        return None
    answer = ask(runner, (str(program), "--query-gpu=compute_cap", "--format=csv,noheader"))
    found = {f"{major}{minor}" for major, minor in CAPABILITY.findall(answer.text)}
    return ";".join(sorted(found, key=int)) or None


def _chosen(defined: str | None, variable: str, names: tuple[str, ...]) -> Path:
    wanted = defined or os.environ.get(variable, "").strip()
    found = on_path((wanted,) if wanted else names)
    if found is None:
        what = f"the compiler {wanted!r}" if wanted else "a C++ compiler"
        raise ToolchainError(f"{what} is not installed", hint=COMPILER_HINT)
    return found


def _backend_compiler(definitions: Definitions, backend: Backend) -> Path | None:
    if backend not in BACKEND_COMPILERS:
        return None
    name, hint = BACKEND_COMPILERS[backend]
    named = (
        (definitions.get("CMAKE_CUDA_COMPILER"), os.environ.get("CUDACXX"))
        if backend == "cuda"
        else ()
    )
    places = [f"{folder}/{name}" for folder in CUDA_FOLDERS] if backend == "cuda" else []
    found = on_path([*(each for each in named if each), name, *places])
    if found is None:
        raise ToolchainError(
            f"{name} is not installed, which `toolchain.backend: {backend}` needs", hint=hint
        )
    return found


def _asked(found: Compilers, *, native: bool, runner: Runner) -> Mapping[str, str]:
    identity = {
        "c": _version(found.c, runner),
        "c++": _version(found.cxx, runner),
        "target": _answer(found.cxx, ("-dumpmachine",), runner).strip(),
        "instructions": _macros(found.cxx, native=native, runner=runner),
    }
    if found.backend is not None:
        identity["backend"] = _answer(found.backend, ("--version",), runner).strip()
    return identity


def _version(compiler: Path, runner: Runner) -> str:
    """The first line it says about itself, without the name it was called by."""
    first = _answer(compiler, ("--version",), runner).splitlines()[0]
    return first.removeprefix(compiler.name).strip()


def _macros(compiler: Path, *, native: bool, runner: Runner) -> str:
    """A digest of what the compiler predefines, which tells its version and instruction set."""
    for flag in NATIVE_FLAGS if native else ():
        answer = ask(runner, (str(compiler), flag, *MACROS))
        if answer.exit_code == 0:
            return sha256_of(answer.text.encode())
    plain = _answer(compiler, MACROS, runner)
    return sha256_of((plain + (_cpu() if native else "")).encode())


def _answer(compiler: Path, arguments: tuple[str, ...], runner: Runner) -> str:
    answer = ask(runner, (str(compiler), *arguments))
    if answer.exit_code != 0 or not answer.text.strip():
        raise ToolchainError(
            f"{compiler.name} {arguments[0]} failed", evidence=answer.lines[:4], hint=COMPILER_HINT
        )
    return answer.text


def _stamp(found: Compilers, *, native: bool) -> str:
    """Changes when a compiler or, for native builds, the CPU changes."""
    files = [path.resolve() for path in (found.c, found.cxx, found.backend) if path is not None]
    sizes = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    names = [found.c.name, found.cxx.name]
    return sha256_of(json.dumps([FORMAT, sizes, names, _cpu() if native else ""]).encode())


def _cpu() -> str:
    with contextlib.suppress(OSError):
        lines = CPU_LINES.findall(Path("/proc/cpuinfo").read_text(encoding="utf-8"))
        return "\n".join(sorted(set(lines)))
    return f"{platform.machine()} {platform.processor()}"


def _remembered(memo: Path) -> Mapping[str, str] | None:
    with contextlib.suppress(OSError, ValueError):
        loaded = json.loads(memo.read_text(encoding="utf-8"))
        if isinstance(loaded, dict) and loaded:
            return {str(key): str(value) for key, value in loaded.items()}
    return None
