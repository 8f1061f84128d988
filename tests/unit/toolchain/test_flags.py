from __future__ import annotations

import pytest

from llamacpp_pipeline.errors import ConfigError
from llamacpp_pipeline.toolchain.flags import Backend, Definitions, definitions, is_on


def defined(*flags: str, backend: Backend = "cpu") -> Definitions:
    return definitions(backend=backend, flags=flags, build_number=10454, commit="4df29be4f")


def test_a_build_says_its_number_and_commit_and_needs_no_network() -> None:
    found = defined()

    assert found["LLAMA_BUILD_NUMBER"] == "10454"
    assert found["LLAMA_BUILD_COMMIT"] == "4df29be4f"
    assert found["LLAMA_USE_PREBUILT_UI"] == found["LLAMA_BUILD_UI"] == "OFF"
    assert found["CMAKE_BUILD_TYPE"] == "Release"
    assert list(found) == sorted(found)


@pytest.mark.parametrize(
    ("backend", "option"),
    [
        ("cuda", "GGML_CUDA"),
        ("metal", "GGML_METAL"),
        ("vulkan", "GGML_VULKAN"),
        ("hip", "GGML_HIP"),
    ],
)
def test_a_backend_is_on_and_the_others_are_off(backend: Backend, option: str) -> None:
    found = defined(backend=backend)
    names = {"GGML_CUDA", "GGML_METAL", "GGML_VULKAN", "GGML_HIP"}

    assert {name for name in names if found[name] == "ON"} == {option}
    assert not any(defined()[name] == "ON" for name in names)


def test_flags_of_the_config_replace_defaults_and_add() -> None:
    found = defined("-DGGML_NATIVE=OFF", "-D GGML_LTO:BOOL=ON", "-DCMAKE_CXX_FLAGS=-O2 -g")

    assert found["GGML_NATIVE"] == "OFF"
    assert found["GGML_LTO"] == "ON"
    assert found["CMAKE_CXX_FLAGS"] == "-O2 -g"


def test_every_flag_that_cannot_be_used_is_named() -> None:
    with pytest.raises(ConfigError, match="cannot be used") as caught:
        defined("--fast", "-DBUILD_SHARED_LIBS=ON", "-DGGML_CUDA=ON", "-DNAME")

    assert caught.value.evidence == (
        "'--fast' is not of the form -DNAME=VALUE",
        "BUILD_SHARED_LIBS is set by the pipeline (see `toolchain.backend`)",
        "GGML_CUDA is set by the pipeline (see `toolchain.backend`)",
        "'-DNAME' is not of the form -DNAME=VALUE",
    )


@pytest.mark.parametrize(("value", "on"), [("ON", True), ("1", True), ("off", False), ("", False)])
def test_an_option_is_read_as_cmake_reads_it(value: str, *, on: bool) -> None:
    assert is_on(value) is on
