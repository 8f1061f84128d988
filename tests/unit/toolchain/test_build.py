from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from llamacpp_pipeline.errors import ToolchainError
from llamacpp_pipeline.process.command import Command
from llamacpp_pipeline.toolchain.build import Blueprint, ensure_built
from llamacpp_pipeline.toolchain.built import read_build
from llamacpp_pipeline.toolchain.compiler import Compilers
from llamacpp_pipeline.toolchain.export import PatchedTree
from llamacpp_pipeline.toolchain.flags import TARGETS, definitions
from llamacpp_pipeline.toolchain.places import Places
from llamacpp_pipeline.toolchain.tree import Manifest
from tests.unit.toolchain.scripted import RecordingTalk, Reply, ScriptedRunner, program

CPU = definitions(backend="cpu", flags=(), build_number=10454, commit="4df29be4f")
IDENTITY = {"c": "1", "c++": "2", "target": "x", "instructions": "y"}
STARTS = Reply(text="usage: ...\n")


def blueprint(
    folder: Path = Path("/anywhere"), *, tree: str = "1" * 64, compiler: str = "2"
) -> Blueprint:
    return Blueprint(
        tree=PatchedTree(folder=folder, manifest=Manifest({"CMakeLists.txt": tree})),
        definitions=CPU,
        compilers=Compilers(
            c=folder / "cc", cxx=folder / "c++", backend=None, identity={**IDENTITY, "c": compiler}
        ),
    )


class BuildRunner(ScriptedRunner):
    """cmake and ninja that leave what the real ones leave; binaries that start."""

    def __init__(self, **replies: Reply) -> None:
        super().__init__({"cmake": Reply(effect=configured), "ninja": ninja(), **replies})
        self.replies = {**dict.fromkeys(TARGETS, STARTS), **self.replies}


def configured(command: Command) -> None:
    work = Path(command.argv[command.argv.index("-B") + 1])
    (work / "build.ninja").write_text("rule\n", encoding="utf-8")


def ninja(
    *, text: str = "[1/2] a\n[2/2] b\n", exit_code: int = 0, leaves: int = len(TARGETS)
) -> Reply:
    def compiled(command: Command) -> None:
        work = Path(command.argv[command.argv.index("-C") + 1])
        for target in TARGETS[:leaves] if exit_code == 0 else ():
            program(work / "bin", target)

    return Reply(text=text, exit_code=exit_code, effect=compiled)


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cmake", "ninja"):
        program(tmp_path / "bin", name)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr("sys.executable", str(tmp_path / "venv" / "bin" / "python"))


def ensured(places: Places, runner: ScriptedRunner, talk: RecordingTalk | None = None) -> Path:
    return ensure_built(blueprint(), places, runner=runner, talk=talk or RecordingTalk())


def test_the_build_id_is_of_tree_definitions_and_compilers() -> None:
    same = blueprint(Path("/elsewhere"))
    others = [
        blueprint(tree="3" * 64),
        blueprint(compiler="3"),
        replace(same, definitions={**CPU, "GGML_NATIVE": "OFF"}),
    ]

    assert same.build_id == blueprint().build_id
    assert replace(same, jobs=7, note="a note").build_id == same.build_id
    assert len({same.build_id, *(other.build_id for other in others)}) == 4


def test_a_build_is_configured_compiled_tried_and_recorded(places: Places) -> None:
    runner, talk = BuildRunner(), RecordingTalk()

    folder = ensured(places, runner, talk)

    record = read_build(folder, memos=places.memos)
    assert runner.programs == ["cmake", "ninja", *TARGETS]
    assert record is not None
    assert record.build_id == folder.name == blueprint().build_id
    assert {path.name for path in (folder / "bin").iterdir()} == set(TARGETS)
    assert (folder / "build.log").is_file()
    assert talk.counted[-1] == (2, 2)
    assert str(places.builds) not in (folder / "build.json").read_text(encoding="utf-8")
    assert not (places.builds / "work" / folder.name).exists()


def test_a_finished_build_is_used(places: Places) -> None:
    ensured(places, BuildRunner())
    silent = ScriptedRunner()

    ensured(places, silent)

    assert silent.history == []


def test_only_the_targets_are_built_with_the_jobs_asked_for(places: Places) -> None:
    runner = BuildRunner()

    ensure_built(replace(blueprint(), jobs=3), places, runner=runner, talk=RecordingTalk())

    argv = runner.history[1].argv
    assert argv[argv.index("-j") + 1] == "3"
    assert argv[-len(TARGETS) :] == TARGETS


def test_no_path_of_this_machine_ends_in_a_binary(places: Places) -> None:
    runner = BuildRunner()

    ensured(places, runner)

    flags = next(a for a in runner.history[0].argv if a.startswith("-DCMAKE_CXX_FLAGS="))
    assert "-ffile-prefix-map=/anywhere=." in flags.split()


def test_a_binary_that_was_cut_short_is_built_again(places: Places) -> None:
    folder = ensured(places, BuildRunner())
    (folder / "bin" / "llama-bench").write_text("#!", encoding="utf-8")
    talk = RecordingTalk()

    ensured(places, BuildRunner(), talk)

    assert talk.said[0] == "the build in the cache is damaged: it is made again"
    assert read_build(folder, memos=places.memos) is not None


def test_the_compilers_own_lines_are_the_evidence(places: Places) -> None:
    text = "[1/2] a\nFAILED: b.o\nsrc/b.cpp:3:1: error: expected ';'\nnote: x\n"

    with pytest.raises(ToolchainError, match="building llama") as caught:
        ensured(places, BuildRunner(ninja=ninja(text=text, exit_code=1)))

    assert caught.value.evidence == ("FAILED: b.o", "src/b.cpp:3:1: error: expected ';'")
    assert caught.value.log is not None
    assert caught.value.log.is_file()
    assert not (places.builds / blueprint().build_id).exists()


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        ("fatal error: error writing to /x: No space left on device", "LLAMACPP_PIPELINE_BUILDS"),
        ("c++: fatal error: Killed signal terminated program cc1plus", "--jobs 1"),
        ("error: something else", "doctor"),
    ],
)
def test_a_known_cause_has_its_own_fix(places: Places, line: str, fix: str) -> None:
    with pytest.raises(ToolchainError) as caught:
        ensured(places, BuildRunner(ninja=ninja(text=line, exit_code=1)))

    assert fix in str(caught.value.hint)


def test_configuring_that_fails_is_told_apart(places: Places) -> None:
    failing = Reply(text="CMake Error at CMakeLists.txt:1\n  No CMAKE_CXX_COMPILER\n", exit_code=1)

    with pytest.raises(ToolchainError, match="configuring llama") as caught:
        ensured(places, BuildRunner(cmake=failing))

    assert caught.value.evidence == ("CMake Error at CMakeLists.txt:1",)


def test_an_interrupted_build_goes_on_where_it_was(places: Places) -> None:
    with pytest.raises(ToolchainError):
        ensured(places, BuildRunner(ninja=ninja(exit_code=1)))
    talk = RecordingTalk()

    ensured(places, BuildRunner(), talk)

    assert talk.said == ["going on with an unfinished build"]


def test_an_unfinished_build_that_cannot_go_on_is_started_again(places: Places) -> None:
    with pytest.raises(ToolchainError):
        ensured(places, BuildRunner(ninja=ninja(exit_code=1)))
    talk, runner = RecordingTalk(), BuildRunner(ninja=ninja(exit_code=1))

    with pytest.raises(ToolchainError):
        ensured(places, runner, talk)

    assert talk.said[-1] == "the unfinished build cannot be continued: starting again"
    assert runner.programs == ["cmake", "ninja", "cmake", "ninja"]


def test_a_binary_that_does_not_start_is_no_build(places: Places) -> None:
    broken = Reply(text="error while loading shared libraries: libcuda.so.1\n", exit_code=127)
    runner = BuildRunner(**{"llama-perplexity": broken})

    with pytest.raises(ToolchainError, match="llama-perplexity was built but does not start") as c:
        ensured(places, runner)

    assert "libcuda" in c.value.evidence[0]


def test_a_build_that_leaves_no_binary_is_none(places: Places) -> None:
    with pytest.raises(ToolchainError, match="left no llama-bench"):
        ensured(places, BuildRunner(ninja=ninja(leaves=3)))


@pytest.mark.parametrize("name", ["cmake", "ninja"])
def test_without_cmake_or_ninja_the_fix_is_the_environment(
    places: Places, tmp_path: Path, name: str
) -> None:
    (tmp_path / "bin" / name).unlink()

    with pytest.raises(ToolchainError, match=f"{name} is not installed") as caught:
        ensured(places, BuildRunner())

    assert "make venv" in str(caught.value.hint)


def test_a_record_of_another_build_does_not_count(places: Places) -> None:
    folder = ensured(places, BuildRunner())
    moved = folder.rename(folder.with_name("0" * 64))

    assert read_build(moved, memos=places.memos) is None


def test_content_that_changed_at_the_same_size_is_noticed(places: Places) -> None:
    folder = ensured(places, BuildRunner())
    assert read_build(folder, memos=places.memos) is not None
    binary = folder / "bin" / "llama-quantize"
    binary.write_text(binary.read_text(encoding="utf-8").replace("99", "98"), encoding="utf-8")

    assert read_build(folder, memos=places.memos) is None


@pytest.mark.parametrize("damage", ["{}", "not json", ""])
def test_a_damaged_record_is_no_build(places: Places, damage: str) -> None:
    folder = ensured(places, BuildRunner())
    (folder / "build.json").write_text(damage, encoding="utf-8")

    assert read_build(folder, memos=places.memos) is None


def test_the_record_holds_what_the_build_id_is_the_digest_of(places: Places) -> None:
    folder = ensured(places, BuildRunner())
    record = json.loads((folder / "build.json").read_text(encoding="utf-8"))

    assert record["definitions"]["LLAMA_BUILD_NUMBER"] == "10454"
    assert record["compilers"] == {**IDENTITY, "c": "2"}
    assert record["tree"] == blueprint().tree.digest
