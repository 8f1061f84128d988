"""Patches applied, refused, edited and written anew, with the real git."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from llamacpp_pipeline.config.schema import ToolchainConfig
from llamacpp_pipeline.errors import ToolchainError, UsageError
from llamacpp_pipeline.process.runner import LocalRunner
from llamacpp_pipeline.toolchain.places import REPOSITORY, Places
from llamacpp_pipeline.toolchain.series import Series, read_series
from llamacpp_pipeline.toolchain.source import Source, fetch, identify
from llamacpp_pipeline.toolchain.talk import SILENCE
from llamacpp_pipeline.toolchain.tree import manifest_of
from llamacpp_pipeline.toolchain.workbench import check, open_bench, refresh
from tests.tools.small_project import PATCH, series, small_project

IDENTITY = ("-c", "user.name=dev", "-c", "user.email=dev@localhost")


@pytest.fixture
def runner() -> Iterator[LocalRunner]:
    with LocalRunner() as local:
        yield local


@pytest.fixture
def source(tmp_path: Path) -> Source:
    project = small_project(tmp_path / "source")
    return Source(
        folder=project, manifest=manifest_of(project), origin="path", commit="local", build_number=0
    )


@pytest.fixture
def patches(tmp_path: Path, source: Source, runner: LocalRunner) -> Series:
    """A series as git itself writes it."""
    folder = series(tmp_path / "patches", draft=PATCH)
    open_bench(read_series(folder), source, tmp_path / "first", runner=runner)
    refresh(folder, tmp_path / "first", runner=runner)
    return read_series(folder)


def commit(bench: Path, message: str) -> None:
    git = ["git", "-C", str(bench), *IDENTITY, "commit", "--quiet", "--all", "--message", message]
    subprocess.run(git, check=True)


def test_applied_and_refreshed_the_series_is_the_same_to_the_byte(
    tmp_path: Path, source: Source, patches: Series, runner: LocalRunner
) -> None:
    before = {path.name: path.read_bytes() for path in patches.folder.iterdir()}

    open_bench(patches, source, tmp_path / "bench", runner=runner)
    names = refresh(patches.folder, tmp_path / "bench", runner=runner)

    assert names == ("0001-main-say-that-it-is-patched.patch",)
    assert {path.name: path.read_bytes() for path in patches.folder.iterdir()} == before


def test_a_commit_on_the_bench_becomes_a_patch(
    tmp_path: Path, source: Source, patches: Series, runner: LocalRunner
) -> None:
    bench = tmp_path / "bench"
    open_bench(patches, source, bench, runner=runner)
    main = bench / "main.cpp"
    main.write_text(main.read_text(encoding="utf-8").replace("return 0", "return 1"))
    commit(bench, "main : fail")

    names = refresh(patches.folder, bench, runner=runner)

    assert names[1] == "0002-main-fail.patch"
    text = (patches.folder / names[1]).read_text(encoding="utf-8")
    assert text.startswith("From 0000000000000000000000000000000000000000 ")
    assert not text.rstrip().endswith(tuple("0123456789")), "no version of git at its end"
    assert check(read_series(patches.folder), source, runner=runner) == names


def test_changes_that_no_commit_holds_are_not_lost_silently(
    tmp_path: Path, source: Source, patches: Series, runner: LocalRunner
) -> None:
    bench = tmp_path / "bench"
    open_bench(patches, source, bench, runner=runner)
    (bench / "main.cpp").write_text("changed", encoding="utf-8")

    with pytest.raises(UsageError, match="changes that no commit holds") as caught:
        refresh(patches.folder, bench, runner=runner)

    assert caught.value.evidence == (" M main.cpp",)


def test_a_folder_that_is_no_bench_is_refused(
    tmp_path: Path, patches: Series, runner: LocalRunner
) -> None:
    (tmp_path / "other").mkdir()

    with pytest.raises(UsageError, match="not a folder made by"):
        refresh(patches.folder, tmp_path / "other", runner=runner)


def test_a_bench_is_not_made_over_something(
    tmp_path: Path, source: Source, patches: Series, runner: LocalRunner
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "work.txt").write_text("x", encoding="utf-8")

    with pytest.raises(UsageError, match="is not empty"):
        open_bench(patches, source, tmp_path / "mine", runner=runner)


def test_a_patch_that_no_longer_applies_is_named_with_its_hunk(
    tmp_path: Path, source: Source, runner: LocalRunner
) -> None:
    stale = PATCH.replace("return 0;", "return 42;")
    folder = series(tmp_path / "patches", good=PATCH, stale=stale)

    with pytest.raises(ToolchainError, match=r"patches/stale\.patch does not apply") as caught:
        check(read_series(folder), source, runner=runner)

    assert any("patch failed: main.cpp:1" in line for line in caught.value.evidence)
    assert "main.cpp:      return 42;" in caught.value.evidence
    assert "patches refresh" in str(caught.value.hint)


def test_what_is_no_patch_is_refused(tmp_path: Path, source: Source, runner: LocalRunner) -> None:
    folder = series(tmp_path / "patches", nonsense="hello\n")

    with pytest.raises(ToolchainError, match=r"nonsense\.patch does not apply") as caught:
        check(read_series(folder), source, runner=runner)

    assert caught.value.evidence


@pytest.mark.tools
@pytest.mark.timeout(180)  # git reads and writes 170 MB a few times
def test_the_repositorys_series_applies_and_refreshes_to_itself(
    tmp_path: Path, runner: LocalRunner
) -> None:
    own = read_series(REPOSITORY / "patches")
    choice = ToolchainConfig()
    places = Places.from_environment()
    pinned = fetch(identify(choice, places), choice, places, runner=runner, talk=SILENCE)

    open_bench(own, pinned, tmp_path / "bench", runner=runner)
    names = refresh(series(tmp_path / "again"), tmp_path / "bench", runner=runner)

    assert names == own.names
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (own.folder / name).read_bytes(), name
