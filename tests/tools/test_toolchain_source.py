"""The git route, on a repository of this machine that stands for GitHub's."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from llamacpp_pipeline.errors import ToolchainError
from llamacpp_pipeline.process.runner import LocalRunner
from llamacpp_pipeline.toolchain import download, upstream
from llamacpp_pipeline.toolchain.download import from_git
from llamacpp_pipeline.toolchain.tree import Manifest, manifest_of
from tests.tools.small_project import small_project

IDENTITY = ("-c", "user.name=up", "-c", "user.email=up@localhost")


@pytest.fixture
def runner() -> Iterator[LocalRunner]:
    with LocalRunner() as local:
        yield local


def git(folder: Path, *arguments: str) -> str:
    argv = ["git", "-C", str(folder), *IDENTITY, *arguments]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    project = small_project(tmp_path / "origin")
    (project / ".gitattributes").write_text("*.txt text=auto\n", encoding="utf-8")
    manifest = manifest_of(project)
    git(project, "init", "--quiet")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", "first")
    wanted = git(project, "rev-parse", "HEAD")
    (project / "main.cpp").write_text("later", encoding="utf-8")
    git(project, "commit", "--quiet", "--all", "--message", "second")
    monkeypatch.setattr(download, "reachable", lambda _: None)
    monkeypatch.setattr(upstream, "URL", project.as_uri())
    monkeypatch.setattr(upstream, "COMMIT", wanted)
    monkeypatch.setattr(upstream, "pinned", lambda: manifest)
    return manifest


def test_one_commit_is_fetched_checked_and_left_without_git(
    tmp_path: Path, origin: Manifest, runner: LocalRunner
) -> None:
    tree = tmp_path / "cache" / "tree"

    from_git(tree, runner=runner)

    assert manifest_of(tree).digest == origin.digest
    assert not (tree / ".git").exists()
    assert [path.name for path in tree.parent.iterdir()] == ["tree"]


@pytest.mark.usefixtures("origin")
def test_another_tree_than_the_pinned_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runner: LocalRunner
) -> None:
    monkeypatch.setattr(upstream, "COMMIT", "HEAD")

    with pytest.raises(ToolchainError, match="what was fetched is not") as caught:
        from_git(tmp_path / "cache" / "tree", runner=runner)

    assert caught.value.evidence == ("different: main.cpp",)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.usefixtures("origin")
def test_a_commit_that_is_not_there_is_gits_complaint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runner: LocalRunner
) -> None:
    monkeypatch.setattr(upstream, "COMMIT", "1" * 40)

    with pytest.raises(ToolchainError, match="GitHub did not give") as caught:
        from_git(tmp_path / "cache" / "tree", runner=runner)

    assert any("fatal" in line for line in caught.value.evidence)
