"""The whole way from a source tree to binaries, with the real git, cmake, ninja and compiler."""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from llamacpp_pipeline.config.schema import ToolchainConfig
from llamacpp_pipeline.errors import ToolchainError
from llamacpp_pipeline.process.runner import LocalRunner
from llamacpp_pipeline.toolchain.binaries import describe, ensure
from llamacpp_pipeline.toolchain.flags import TARGETS
from llamacpp_pipeline.toolchain.places import Places
from tests.tools.small_project import series, small_places, small_project
from tests.unit.toolchain.scripted import RecordingTalk, ScriptedRunner


@pytest.fixture
def runner() -> Iterator[LocalRunner]:
    with LocalRunner() as local:
        yield local


def choice(project: Path, *flags: str) -> ToolchainConfig:
    return ToolchainConfig(source="path", path=str(project), flags=flags)


def printed(binary: Path) -> str:
    return subprocess.run([binary], check=True, capture_output=True, text=True).stdout


def test_a_source_becomes_patched_binaries_once(tmp_path: Path, runner: LocalRunner) -> None:
    wanted, places = choice(small_project(tmp_path / "own")), small_places(tmp_path)
    talk = RecordingTalk()

    before = describe(wanted, runner=runner, places=places)
    assert not before.is_built
    toolchain = ensure(wanted, runner=runner, talk=talk, places=places)

    assert toolchain.build_id == before.build_id
    assert toolchain.is_built
    assert printed(toolchain.bin_dir / "llama-bench") == "patched\ncommit local of ./main.cpp\n"
    assert "patched" not in (tmp_path / "own" / "main.cpp").read_text(encoding="utf-8")
    assert toolchain.note is not None
    n_jobs = 2 * len(TARGETS)  # each is compiled, and linked
    assert talk.counted[-1] == (n_jobs, n_jobs)

    silent = ScriptedRunner()
    again = ensure(wanted, runner=silent, places=places)
    assert again.build_id == toolchain.build_id
    assert silent.history == [], "everything is remembered"


def test_the_build_id_is_the_same_from_other_folders(tmp_path: Path, runner: LocalRunner) -> None:
    ids, contents = set(), set()
    for name in ("first", "a second one"):
        home = tmp_path / name
        wanted = choice(small_project(home / "own"))
        toolchain = ensure(wanted, runner=runner, places=small_places(home))
        ids.add(toolchain.build_id)
        contents.add((toolchain.bin_dir / "llama-bench").read_bytes())

    assert len(ids) == 1
    assert len(contents) == 1, "no path of a folder is in the binaries"


def test_source_patches_and_flags_change_the_build_id(tmp_path: Path, runner: LocalRunner) -> None:
    project, places = small_project(tmp_path / "own"), small_places(tmp_path)
    ids = [describe(choice(project), runner=runner, places=places).build_id]
    portable = choice(project, "-DGGML_NATIVE=OFF")
    ids.append(describe(portable, runner=runner, places=places).build_id)
    (project / "new.txt").write_text("x", encoding="utf-8")
    ids.append(describe(choice(project), runner=runner, places=places).build_id)
    series(places.patches)
    (places.patches / "patched.patch").unlink()
    ids.append(describe(choice(project), runner=runner, places=places).build_id)

    assert len(set(ids)) == 4


def test_a_patch_that_the_users_tree_has_already_is_passed_over(
    tmp_path: Path, runner: LocalRunner
) -> None:
    places = small_places(tmp_path)
    tree = describe(choice(small_project(tmp_path / "own")), runner=runner, places=places)
    patched = shutil.copytree(tree.source_dir, tmp_path / "patched")

    again = describe(choice(patched), runner=runner, places=places)

    assert again.source_digest == tree.source_digest


def test_a_patched_tree_that_was_touched_is_made_again(tmp_path: Path, runner: LocalRunner) -> None:
    wanted, places = choice(small_project(tmp_path / "own")), small_places(tmp_path)
    first = describe(wanted, runner=runner, places=places)
    (first.source_dir / "main.cpp").write_text("touched", encoding="utf-8")
    talk = RecordingTalk()

    second = describe(wanted, runner=runner, talk=talk, places=places)

    assert second.source_digest == first.source_digest
    assert talk.said == ["the patched tree in the cache was changed: it is made again"]
    assert "patched" in (second.source_dir / "main.cpp").read_text(encoding="utf-8")


def test_source_that_does_not_compile_is_shown(tmp_path: Path, runner: LocalRunner) -> None:
    project = small_project(tmp_path / "own")
    with (project / "main.cpp").open("a", encoding="utf-8") as main:
        main.write("int other() { return undeclared; }\n")

    with pytest.raises(ToolchainError, match="building llama") as caught:
        ensure(choice(project), runner=runner, places=small_places(tmp_path))

    assert any("undeclared" in line for line in caught.value.evidence)
    assert caught.value.log is not None
    assert "undeclared" in caught.value.log.read_text(encoding="utf-8")


def test_a_repository_around_the_cache_is_not_asked(tmp_path: Path, runner: LocalRunner) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)

    found = describe(
        choice(small_project(tmp_path / "own")), runner=runner, places=small_places(tmp_path)
    )

    assert "patched" in (found.source_dir / "main.cpp").read_text(encoding="utf-8")


def build_in_a_process(home: Path, said: multiprocessing.Queue[list[str]]) -> None:
    talk = RecordingTalk()
    ensure(choice(home / "own"), talk=talk, places=small_places(home))
    said.put(talk.said)


def test_of_two_processes_one_builds_and_the_other_waits(tmp_path: Path) -> None:
    small_project(tmp_path / "own")
    small_places(tmp_path)
    context = multiprocessing.get_context("spawn")
    said = context.Queue()
    processes = [
        context.Process(target=build_in_a_process, args=(tmp_path, said)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    lines = [said.get(timeout=50) for _ in processes]
    for process in processes:
        process.join(10)

    builders = [each for each in lines if "building llama.cpp" in each]
    assert len(builders) == 1
    assert [process.exitcode for process in processes] == [0, 0]


def test_places_hold_nothing_but_the_build_when_it_is_done(
    tmp_path: Path, runner: LocalRunner
) -> None:
    places: Places = small_places(tmp_path)

    toolchain = ensure(choice(small_project(tmp_path / "own")), runner=runner, places=places)

    left = {path.name for path in places.builds.iterdir()}
    assert left == {toolchain.build_id, "locks", "trees", "work"}
    assert list((places.builds / "work").iterdir()) == []
    assert {path.name for path in toolchain.folder.iterdir()} == {
        "bin",
        "build.json",
        "build.log",
        "configure.log",
    }
