"""CMake definitions: what every build has, what a backend adds, what a config may add."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from llamacpp_pipeline.errors import ConfigError

Backend = Literal["cpu", "cuda", "metal", "vulkan", "hip"]
TARGETS = (
    "llama-imatrix",
    "llama-quantize",
    "llama-perplexity",
    "llama-bench",
    "llama-gguf-split",
    "llama-kld-probe",
    "llama-fit-params",
)
FIXED = {
    "CMAKE_BUILD_TYPE": "Release",
    "BUILD_SHARED_LIBS": "OFF",  # the binaries leave the build folder
    "GGML_BACKEND_DL": "OFF",
    "GGML_METAL_EMBED_LIBRARY": "ON",
    "LLAMA_BUILD_COMMON": "ON",
    "LLAMA_BUILD_TOOLS": "ON",
    "LLAMA_BUILD_APP": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_MTMD": "OFF",
    "LLAMA_BUILD_SERVER": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_UI": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",  # configuring must not need the network
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_TESTS_INSTALL": "OFF",
    "LLAMA_TOOLS_INSTALL": "OFF",
}
DEFAULTS = {
    "GGML_NATIVE": "ON",
    "LLAMA_ALL_WARNINGS": "OFF",
}
BACKEND_OPTIONS = {
    "cuda": "GGML_CUDA",
    "hip": "GGML_HIP",
    "metal": "GGML_METAL",
    "vulkan": "GGML_VULKAN",
}
OURS = frozenset({*FIXED, *BACKEND_OPTIONS.values(), "LLAMA_BUILD_NUMBER", "LLAMA_BUILD_COMMIT"})
FALSE = frozenset({"OFF", "NO", "FALSE", "N", "0", "IGNORE", "NOTFOUND", ""})
DEFINITION = re.compile(r"-D\s*(?P<name>\w+)(?::\w+)?=(?P<value>.*)", re.DOTALL)

Definitions = Mapping[str, str]


def definitions(
    *, backend: Backend, flags: tuple[str, ...], build_number: int, commit: str
) -> Definitions:
    """Every definition that can change a binary, sorted by name. All of them are hashed."""
    backends = {
        option: "ON" if name == backend else "OFF" for name, option in BACKEND_OPTIONS.items()
    }
    ours = {
        **FIXED,
        **backends,
        "LLAMA_BUILD_NUMBER": str(build_number),
        "LLAMA_BUILD_COMMIT": commit,
    }
    return dict(sorted({**DEFAULTS, **_parsed(flags), **ours}.items()))


def is_on(value: str) -> bool:
    """How CMake reads an option."""
    return value.upper() not in FALSE


def _parsed(flags: tuple[str, ...]) -> dict[str, str]:
    parsed: dict[str, str] = {}
    problems = []
    for flag in flags:
        match = DEFINITION.fullmatch(flag)
        if match is None:
            problems.append(f"{flag!r} is not of the form -DNAME=VALUE")
        elif match["name"] in OURS:
            problems.append(f"{match['name']} is set by the pipeline (see `toolchain.backend`)")
        else:
            parsed[match["name"]] = match["value"]
    if problems:
        raise ConfigError(
            "`toolchain.flags` cannot be used",
            evidence=problems,
            hint="give CMake definitions, as in `flags: [-DGGML_NATIVE=OFF]`",
        )
    return parsed
