from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from llamacpp_pipeline.errors import ToolchainError
from llamacpp_pipeline.toolchain import upstream
from llamacpp_pipeline.toolchain.tree import (
    Manifest,
    known_manifest,
    manifest_of,
    require_same,
    scan,
)


def tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_manifest_is_what_sha256sum_writes_and_the_digest_is_its_own(tmp_path: Path) -> None:
    manifest = manifest_of(tree(tmp_path, {"b/c.txt": "2", "a.txt": "1", "b.txt": "3"}))

    text = f"{sha256('1')}  a.txt\n{sha256('3')}  b.txt\n{sha256('2')}  b/c.txt\n"
    assert manifest.text == text
    assert manifest.digest == sha256(text)
    assert Manifest.parse(text).files == manifest.files


def test_git_folders_git_links_and_bytecode_are_no_part_of_a_tree(tmp_path: Path) -> None:
    plain = tree(tmp_path / "plain", {"a": "1"})
    visited = tree(tmp_path / "visited", {"a": "1", "b/.git": "gitdir: elsewhere"})
    tree(visited, {".git/HEAD": "ref", "x/__pycache__/a.pyc": "?"})

    assert manifest_of(visited).digest == manifest_of(plain).digest


def test_a_users_own_build_folders_can_be_left_out(tmp_path: Path) -> None:
    tree(tmp_path, {"a": "1", "build/CMakeCache.txt": "x", "build/bin/tool": "y"})

    assert [entry.name for entry in scan(tmp_path, skip_builds=True)] == ["a"]
    assert len(scan(tmp_path)) == 3


def test_a_link_is_known_by_where_it_points(tmp_path: Path) -> None:
    tree(tmp_path, {"a": "1"})
    (tmp_path / "link").symlink_to("a")
    before = manifest_of(tmp_path).files["link"]
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("b")

    assert manifest_of(tmp_path).files["link"] != before != sha256("1")


def test_names_that_are_not_unicode_survive(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    strange = os.fsencode(tmp_path / "tree") + b"/\xff"
    Path(os.fsdecode(strange)).write_text("1", encoding="utf-8")

    first = known_manifest(tmp_path / "tree", memos=tmp_path / "memos")

    assert known_manifest(tmp_path / "tree", memos=tmp_path / "memos").files == first.files


@pytest.mark.parametrize("line", ["nonsense", "abc  short-digest", f"{'0' * 64}  ", "0" * 64])
def test_a_line_that_is_none_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not a line"):
        Manifest.parse(line)


def test_the_memo_is_used_until_a_file_changes(tmp_path: Path) -> None:
    folder, memos = tree(tmp_path / "tree", {"a": "1"}), tmp_path / "memos"
    first = known_manifest(folder, memos=memos)
    (memo,) = memos.iterdir()
    planted = memo.read_text(encoding="utf-8").replace(first.files["a"], "f" * 64)
    memo.write_text(planted, encoding="utf-8")

    assert known_manifest(folder, memos=memos).files == {"a": "f" * 64}, "read from the memo"

    (folder / "a").write_text("changed", encoding="utf-8")
    assert known_manifest(folder, memos=memos).files == {"a": sha256("changed")}


def test_a_damaged_memo_is_read_over(tmp_path: Path) -> None:
    folder, memos = tree(tmp_path / "tree", {"a": "1"}), tmp_path / "memos"
    known_manifest(folder, memos=memos)
    (memo,) = memos.iterdir()
    memo.write_text(memo.read_text(encoding="utf-8")[:70], encoding="utf-8")

    assert known_manifest(folder, memos=memos).files == {"a": sha256("1")}


def test_the_first_differing_paths_are_named() -> None:
    expected = Manifest({"gone": "1" * 64, "same": "2" * 64, "touched": "3" * 64})
    found = Manifest({"same": "2" * 64, "touched": "4" * 64, "new": "5" * 64})

    with pytest.raises(ToolchainError, match="vendor is not the llama") as caught:
        require_same(expected, found, what="vendor", hint="start again")

    assert caught.value.evidence == ("missing: gone", "not expected: new", "different: touched")
    assert caught.value.hint == "start again"


def test_of_many_differing_paths_the_rest_is_counted() -> None:
    found = Manifest({f"{number:02}": "1" * 64 for number in range(20)})

    with pytest.raises(ToolchainError) as caught:
        require_same(Manifest({}), found, what="it", hint="")

    assert len(caught.value.evidence) == 9
    assert caught.value.evidence[-1] == "and 12 more"


def test_the_pinned_tree_is_the_one_recorded() -> None:
    assert upstream.pinned().digest == upstream.TREE_SHA256
    assert len(upstream.pinned().files) == 3425
    assert "tools/perplexity/perplexity.cpp" in upstream.pinned().files
