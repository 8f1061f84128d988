from __future__ import annotations

from pathlib import Path

import pytest

from llamacpp_pipeline.errors import ToolchainError
from llamacpp_pipeline.toolchain.places import REPOSITORY
from llamacpp_pipeline.toolchain.series import read_series


def patches(folder: Path, series: str, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "series").write_text(series, encoding="utf-8")
    for name, text in files.items():
        (folder / f"{name}.patch").write_text(text, encoding="utf-8")
    return folder


def test_order_comments_and_blank_lines(tmp_path: Path) -> None:
    series = read_series(patches(tmp_path, "# first\nb.patch\n\n  a.patch \n", a="1", b="2"))

    assert series.names == ("b.patch", "a.patch")
    assert series.paths[0] == tmp_path / "b.patch"


def test_order_and_content_enter_the_digest(tmp_path: Path) -> None:
    first = read_series(patches(tmp_path, "a.patch\nb.patch\n", a="1", b="2"))
    turned = read_series(patches(tmp_path, "b.patch\na.patch\n"))
    edited = read_series(patches(tmp_path, "a.patch\nb.patch\n", b="3"))
    again = read_series(patches(tmp_path, "a.patch\nb.patch\n", b="2"))

    assert len({first.digest, turned.digest, edited.digest}) == 3
    assert again.digest == first.digest


def test_a_name_without_file_and_a_file_without_name_are_both_told(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match="do not agree") as caught:
        read_series(patches(tmp_path, "gone.patch\n", extra="1"))

    assert caught.value.evidence == (
        "gone.patch: in patches/series, but there is no such file",
        "extra.patch: not in patches/series",
    )


def test_without_a_series_the_fix_is_a_clone(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match="cannot be read") as caught:
        read_series(tmp_path)

    assert "clone" in str(caught.value.hint)


def test_the_repositorys_own_series_is_complete() -> None:
    assert read_series(REPOSITORY / "patches").names[0].startswith("0001-")
