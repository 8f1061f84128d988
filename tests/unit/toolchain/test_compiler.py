from __future__ import annotations

from pathlib import Path

import pytest

from llamacpp_pipeline.errors import ToolchainError
from llamacpp_pipeline.process.command import Command, Outcome, Watcher
from llamacpp_pipeline.toolchain.compiler import (
    Compilers,
    cuda_architectures,
    find_compilers,
    identify_compilers,
)
from llamacpp_pipeline.toolchain.places import Places
from tests.unit.toolchain.scripted import Reply, ScriptedRunner, program

NATIVE = {"GGML_NATIVE": "ON"}
PORTABLE = {"GGML_NATIVE": "OFF"}


class CompilerRunner(ScriptedRunner):
    """Answers as a compiler does; `-march=native` adds an instruction set."""

    def __init__(
        self, *, native_flag: str | None = "-march=native", version: str = "12.2.0"
    ) -> None:
        super().__init__()
        self._native_flag = native_flag
        self._version = version

    def run(self, command: Command, watcher: Watcher | None = None) -> Outcome:
        name, argument = Path(command.argv[0]).name, command.argv[1]
        texts = {
            "--version": f"{name} (Maker) {self._version}\nInstalledDir: /opt/of/this/machine\n",
            "-dumpmachine": "x86_64-linux-gnu\n",
            "-dM": "#define __VERSION__ 12\n",
        }
        if self._native_flag is not None:
            texts[self._native_flag] = "#define __AVX2__ 1\n"
        text = texts.get(argument)
        self.replies = {name: Reply(text or "unknown flag\n", exit_code=0 if text else 1)}
        return super().run(command, watcher)


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    for name in ("cc", "c++", "clang", "clang++"):
        program(folder, name)
    monkeypatch.setenv("PATH", str(folder))
    for name in ("CC", "CXX", "CUDACXX"):
        monkeypatch.delenv(name, raising=False)
    return folder


def identified(places: Places, runner: ScriptedRunner, **definitions: str) -> Compilers:
    return identify_compilers({**NATIVE, **definitions}, "cpu", places, runner=runner)


def test_identity_holds_no_path_and_no_name_of_the_program(places: Places, machine: Path) -> None:
    found = identified(places, CompilerRunner())

    assert found.cxx == machine / "c++"
    assert found.identity["c++"] == "(Maker) 12.2.0"
    assert found.identity["target"] == "x86_64-linux-gnu"
    assert str(machine) not in str(found.identity)
    assert "this/machine" not in str(found.identity)


def test_the_second_time_nothing_is_asked(places: Places) -> None:
    first = identified(places, CompilerRunner())
    silent = ScriptedRunner()

    assert identified(places, silent).identity == first.identity
    assert silent.history == []


def test_a_compiler_that_was_replaced_is_asked_again(places: Places, machine: Path) -> None:
    first = identified(places, CompilerRunner())
    (machine / "c++").write_text("#!/bin/sh\n# a newer one\n", encoding="utf-8")

    second = identified(places, CompilerRunner(version="13.1.0"))

    assert second.identity["c++"] == "(Maker) 13.1.0"
    assert second.identity != first.identity


def test_the_instruction_set_counts_only_for_native_builds(places: Places) -> None:
    native = identified(places, CompilerRunner())
    portable = identify_compilers(PORTABLE, "cpu", places, runner=CompilerRunner())

    assert native.identity["instructions"] != portable.identity["instructions"]


def test_a_compiler_that_wants_mcpu_gets_it(places: Places) -> None:
    runner = CompilerRunner(native_flag="-mcpu=native")

    identified(places, runner)

    assert [c.argv[1] for c in runner.history][-2:] == ["-march=native", "-mcpu=native"]


def test_a_compiler_without_native_flags_is_told_apart_by_the_cpu(places: Places) -> None:
    native = identified(places, CompilerRunner(native_flag=None))
    portable = identify_compilers(PORTABLE, "cpu", places, runner=CompilerRunner(native_flag=None))

    assert native.identity["instructions"] != portable.identity["instructions"]


def test_cc_and_cxx_choose(monkeypatch: pytest.MonkeyPatch, machine: Path) -> None:
    monkeypatch.setenv("CC", "clang")
    monkeypatch.setenv("CXX", "clang++")

    found = find_compilers({}, "cpu")

    assert (found.c, found.cxx) == (machine / "clang", machine / "clang++")


def test_no_compiler_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))

    with pytest.raises(ToolchainError, match=r"a C\+\+ compiler is not installed") as caught:
        find_compilers({}, "cpu")

    assert "apt-get install g++" in str(caught.value.hint)


def test_a_compiler_named_wrongly_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "g++-99")

    with pytest.raises(ToolchainError, match=r"the compiler 'g\+\+-99' is not installed"):
        find_compilers({}, "cpu")


def test_a_backend_without_its_compiler_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamacpp_pipeline.toolchain.compiler.CUDA_FOLDERS", ())

    with pytest.raises(ToolchainError, match="nvcc is not installed") as caught:
        find_compilers({}, "cuda")

    assert "CUDA toolkit" in str(caught.value.hint)


def test_a_backend_compiler_is_part_of_the_identity(places: Places, machine: Path) -> None:
    program(machine, "glslc")

    found = identify_compilers(NATIVE, "vulkan", places, runner=CompilerRunner())

    assert found.identity["backend"].startswith("glslc (Maker)")


def test_a_compiler_that_does_not_answer_is_an_error(places: Places) -> None:
    runner = ScriptedRunner({"cc": Reply(text="Segmentation fault\n", exit_code=-11)})

    with pytest.raises(ToolchainError, match="cc --version failed") as caught:
        identified(places, runner)

    assert caught.value.evidence == ("Segmentation fault",)


def test_gpu_architectures_are_sorted_and_named_once(machine: Path) -> None:
    program(machine, "nvidia-smi")
    runner = ScriptedRunner({"nvidia-smi": Reply(text="12.0\n9.0\n9.0\n")})

    assert cuda_architectures(runner) == "90;120"


def test_no_gpu_no_architecture(machine: Path) -> None:
    program(machine, "nvidia-smi")
    runner = ScriptedRunner({"nvidia-smi": Reply(text="No devices were found\n", exit_code=6)})

    assert cuda_architectures(runner) is None
