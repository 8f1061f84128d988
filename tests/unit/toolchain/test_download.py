from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path

import pytest

from llamacpp_pipeline.errors import ToolchainError
from llamacpp_pipeline.process.command import Command
from llamacpp_pipeline.toolchain import download, upstream
from llamacpp_pipeline.toolchain.download import extract, from_git, from_sdist, reachable
from tests.unit.toolchain.scripted import Reply, ScriptedRunner, program

PYTHON = Path(sys.executable).name


def archive(path: Path, names: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in names.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member.mode = 0o755 if name.endswith(".py") else 0o644
            tar.addfile(member, io.BytesIO(data))
    return path


def test_only_files_of_the_pinned_tree_leave_the_archive(tmp_path: Path) -> None:
    sdist = archive(
        tmp_path / "a.tar.gz",
        {
            upstream.SDIST_TREE + "CMakeLists.txt": b"x",
            upstream.SDIST_TREE + "convert_hf_to_gguf.py": b"y",
            upstream.SDIST_TREE + "../../../../evil": b"z",
            upstream.SDIST_TREE + "not-upstream": b"z",
            "/etc/evil": b"z",
        },
    )

    extract(sdist, tmp_path / "out")

    left = {path.name for path in (tmp_path / "out").rglob("*")}
    assert left == {"CMakeLists.txt", "convert_hf_to_gguf.py"}
    assert not (tmp_path / "evil").exists()
    assert (tmp_path / "out" / "convert_hf_to_gguf.py").stat().st_mode & 0o100


def test_an_archive_cut_short_is_an_error(tmp_path: Path) -> None:
    whole = archive(tmp_path / "a.tar.gz", {upstream.SDIST_TREE + "LICENSE": b"x" * 9999})
    whole.write_bytes(whole.read_bytes()[:60])

    with pytest.raises(ToolchainError, match="could not be unpacked"):
        extract(whole, tmp_path / "out")


def test_pip_gets_the_hash_and_its_complaint_is_passed_on(tmp_path: Path) -> None:
    asked: list[str] = []

    def note(command: Command) -> None:
        asked.append((command.cwd / "requirements.txt").read_text(encoding="utf-8"))

    reply = Reply(text="...\nERROR: No matching distribution\n", exit_code=1, effect=note)
    runner = ScriptedRunner({PYTHON: reply})
    tree = tmp_path / "sources" / "tree"

    with pytest.raises(ToolchainError, match="PyPI did not give") as caught:
        from_sdist(tree, runner=runner)

    assert asked == [f"llama-cpp-python==0.3.35 --hash=sha256:{upstream.SDIST_SHA256}\n"]
    assert "--require-hashes" in runner.history[0].argv
    assert "ERROR: No matching distribution" in caught.value.evidence
    assert list(tree.parent.iterdir()) == [], "nothing half-made is left"


def test_an_archive_with_another_tree_is_refused(tmp_path: Path) -> None:
    def deliver(command: Command) -> None:
        archive(command.cwd / "x.tar.gz", {upstream.SDIST_TREE + "CMakeLists.txt": b"other"})

    runner = ScriptedRunner({PYTHON: Reply(effect=deliver)})
    tree = tmp_path / "sources" / "tree"

    with pytest.raises(ToolchainError, match="what was fetched is not"):
        from_sdist(tree, runner=runner)

    assert list(tree.parent.iterdir()) == []


def test_pip_that_leaves_nothing_is_an_error(tmp_path: Path) -> None:
    runner = ScriptedRunner({PYTHON: Reply()})

    with pytest.raises(ToolchainError, match="left no source distribution"):
        from_sdist(tmp_path / "sources" / "tree", runner=runner)


def test_git_is_not_asked_for_a_password_and_its_complaint_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin", "git")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("https_proxy", "http://someone:hidden@proxy.example:3128")
    runner = ScriptedRunner({"git": Reply(text="fatal: unable to access\n", exit_code=128)})

    with pytest.raises(ToolchainError, match="GitHub did not give") as caught:
        from_git(tmp_path / "sources" / "tree", runner=runner)

    command = runner.history[0]
    assert caught.value.evidence == ("fatal: unable to access",)
    assert command.environment["GIT_TERMINAL_PROMPT"] == "0"
    assert command.environment["https_proxy"].endswith("proxy.example:3128")
    assert "hidden" in command.secrets


def test_without_git_that_route_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ToolchainError, match="git is not installed"):
        from_git(tmp_path / "tree", runner=ScriptedRunner())


def test_the_password_of_a_package_index_is_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:s3cret@packages.example/simple")

    assert "s3cret" in download._secrets()


def test_a_host_that_cannot_be_reached_fails_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in download.PROXIES:
        monkeypatch.delenv(name, raising=False)

    def refused(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("socket.create_connection", refused)

    with pytest.raises(ToolchainError, match=r"host\.example is out of reach"):
        reachable("host.example")
