"""Given files and folders: known by content, remembered by what stat() says of them."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from llamacpp_pipeline.engine.digests import Digests, write_atomically
from llamacpp_pipeline.engine.leaves import leaf_from_file, leaf_from_folder, refuse_changed
from llamacpp_pipeline.errors import InputError

LONG_AGO = time.time() - 1000


@pytest.fixture
def digests(tmp_path: Path) -> Digests:
    return Digests(tmp_path / "digests")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.model", "merges.txt", "README.md"):
        (folder / name).write_text(name)
    return folder


def aged(path: Path, text: str) -> Path:
    path.write_text(text)
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def test_a_file_is_its_content(tmp_path: Path, digests: Digests) -> None:
    (tmp_path / "wiki.raw").write_text("words")
    leaf = leaf_from_file(tmp_path / "wiki.raw", "the wiki", digests=digests)

    assert leaf.digest == hashlib.sha256(b"words").hexdigest()
    assert (leaf.label, leaf.size_bytes) == ("the wiki", 5)


def test_a_digest_is_computed_once(tmp_path: Path, digests: Digests) -> None:
    path = aged(tmp_path / "big", "before")
    first = digests.of(path)
    path.write_text("AFTER!")  # same size, and time set back: what only a forger does
    os.utime(path, (LONG_AGO, LONG_AGO))

    assert digests.of(path) == first


def test_a_changed_file_is_read_again(tmp_path: Path, digests: Digests) -> None:
    path = aged(tmp_path / "big", "before")
    first = digests.of(path)
    path.write_text("AFTER!")

    assert digests.of(path) != first


def test_a_replaced_file_of_the_same_age_and_size_is_read_again(
    tmp_path: Path, digests: Digests
) -> None:
    path = aged(tmp_path / "big", "before")
    first = digests.of(path)
    aged(tmp_path / "new", "AFTER!").replace(path)

    assert digests.of(path) != first


def test_a_file_written_just_now_is_not_remembered(tmp_path: Path, digests: Digests) -> None:
    (tmp_path / "big").write_text("before")
    digests.of(tmp_path / "big")

    assert not (tmp_path / "digests").exists()


def test_a_broken_memory_is_no_memory(tmp_path: Path, digests: Digests) -> None:
    path = aged(tmp_path / "big", "before")
    digest = digests.of(path)
    for note in (tmp_path / "digests").iterdir():
        note.write_text("[1")

    assert digests.of(path) == digest


def test_a_folder_is_the_files_a_model_needs(model: Path, digests: Digests) -> None:
    before = leaf_from_folder(model, "model", digests=digests)
    (model / "notes.bin").write_text("mine")
    (model / "original").mkdir()
    assert leaf_from_folder(model, "other label", digests=digests).digest == before.digest

    (model / "README.md").write_text("another licence")
    assert leaf_from_folder(model, "model", digests=digests).digest != before.digest
    assert before.size_bytes == sum(len(p) for p in (
        "config.json", "model.safetensors", "tokenizer.model", "merges.txt", "README.md"
    ))  # fmt: skip


def test_a_renamed_file_changes_the_folder(model: Path, digests: Digests) -> None:
    before = leaf_from_folder(model, "model", digests=digests)
    (model / "merges.txt").rename(model / "vocab.txt")

    assert leaf_from_folder(model, "model", digests=digests).digest != before.digest


def test_a_folder_can_hold_links_as_a_hub_cache_does(model: Path, digests: Digests) -> None:
    before = leaf_from_folder(model, "model", digests=digests)
    (model / "config.json").rename(model.parent / "blob")
    (model / "config.json").symlink_to(model.parent / "blob")

    assert leaf_from_folder(model, "model", digests=digests).digest == before.digest


def test_what_cannot_be_used_is_named(tmp_path: Path, digests: Digests) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "bare").mkdir()
    with pytest.raises(InputError, match=r"the wiki: there is no file .*absent"):
        leaf_from_file(tmp_path / "absent", "the wiki", digests=digests)
    with pytest.raises(InputError, match="is empty"):
        leaf_from_file(tmp_path / "empty", "the wiki", digests=digests)
    with pytest.raises(InputError, match="holds no model files"):
        leaf_from_folder(tmp_path / "bare", "model", digests=digests)
    with pytest.raises(InputError, match="is not a folder"):
        leaf_from_folder(tmp_path / "absent", "model", digests=digests)


def test_a_leaf_that_vanished_or_changed_is_refused(model: Path, digests: Digests) -> None:
    leaf = leaf_from_folder(model, "model", digests=digests)
    refuse_changed(leaf, digests=digests)
    (model / "config.json").write_text("{}")
    with pytest.raises(InputError, match="changed since the plan was made"):
        refuse_changed(leaf, digests=digests)


def test_a_failed_write_leaves_the_old_text(tmp_path: Path) -> None:
    write_atomically(tmp_path / "note", "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "note", "\ud800")
    assert (tmp_path / "note").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["note"]
