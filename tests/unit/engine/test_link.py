"""Results linked into a folder: whole or not at all, and not again where they are there."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from llamacpp_pipeline.engine import link
from llamacpp_pipeline.engine.digests import Digests, sha256_of
from llamacpp_pipeline.engine.link import How, place


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "store.gguf"
    path.write_text("weights")
    path.chmod(0o444)
    return path


def placed(source: Path, target: Path) -> How:
    digests = Digests(target.parent.parent / "digests")
    return place(source, target, sha256=sha256_of(source), digests=digests)


def refuse(number: int) -> object:
    def refused(source: Path, staged: Path) -> None:
        staged.touch()
        raise OSError(number, str(source))

    return refused


def test_the_file_is_there_however_it_came(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "model.gguf"

    assert placed(source, target) in ("reflink", "hard link")
    assert target.read_text() == "weights"
    assert placed(source, target) == "kept"
    assert [path.name for path in target.parent.iterdir()] == ["model.gguf"]


def test_in_that_order(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_reflink", lambda a, b: b.write_bytes(a.read_bytes()))
    assert placed(source, tmp_path / "out" / "1") == "reflink"
    monkeypatch.setattr(link, "_reflink", refuse(errno.EOPNOTSUPP))
    assert placed(source, tmp_path / "out" / "2") == "hard link"
    monkeypatch.setattr(link, "_hard_link", refuse(errno.EXDEV))
    assert placed(source, tmp_path / "out" / "3") == "copy"

    copy = tmp_path / "out" / "3"
    assert copy.read_text() == "weights"
    assert copy.stat().st_mode & 0o200
    assert not copy.samefile(source)
    assert placed(source, copy) == "kept"


def test_an_older_result_is_replaced(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "model.gguf"
    target.parent.mkdir()
    target.write_text("WEIGHTS")

    assert placed(source, target) != "kept"
    assert target.read_text() == "weights"


def test_a_link_of_the_users_is_replaced_not_followed(source: Path, tmp_path: Path) -> None:
    target, other = tmp_path / "out" / "model.gguf", tmp_path / "precious"
    target.parent.mkdir()
    other.write_text("precious")
    target.symlink_to(other)
    placed(source, target)

    assert other.read_text() == "precious"
    assert not target.is_symlink()


def test_a_full_disk_is_told_and_leaves_the_old_result(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out" / "model.gguf"
    target.parent.mkdir()
    target.write_text("old")
    monkeypatch.setattr(link, "_reflink", refuse(errno.ENOSPC))

    with pytest.raises(OSError, match="28"):
        placed(source, target)
    assert target.read_text() == "old"
    assert [path.name for path in target.parent.iterdir()] == ["model.gguf"]
