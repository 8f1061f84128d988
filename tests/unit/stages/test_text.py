"""A column of texts as one text."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages.text import STAGE, TOOL, TextParams, argv, main, parse

ROWS = [{"content": "One.\nTwo.", "n": 1}, {"content": None, "n": 2}, {"content": "Drei ü", "n": 3}]
WHOLE = "One.\nTwo.\nDrei ü\n".encode()


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "source").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    return {"source": tmp_path / "source", "text": tmp_path / "text"}


def ran(asked: TextParams, paths: dict[str, Path]) -> str:
    return CliRunner().invoke(main, argv(asked, paths)[1:]).output


def test_argv(paths: dict[str, Path]) -> None:
    params = TextParams(container="parquet", column="content")
    assert argv(params, paths) == (
        TOOL,
        *("--source", str(paths["source"])),
        *("--params", params.model_dump_json()),
        *("--output", str(paths["text"])),
    )


def test_rows_are_written_one_after_the_other(paths: dict[str, Path]) -> None:
    result = parse(ran(TextParams(container="jsonl"), paths), paths)
    assert paths["text"].read_bytes() == WHOLE
    assert (result.column, result.n_rows, result.n_empty) == ("content", 2, 1)
    assert (result.size_bytes, result.sha256) == (len(WHOLE), hashlib.sha256(WHOLE).hexdigest())


def test_parquet_is_read_as_json_lines_are(paths: dict[str, Path]) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    from pyarrow import parquet  # noqa: PLC0415

    parquet.write_table(pyarrow.Table.from_pylist(ROWS), paths["source"])
    parse(ran(TextParams(container="parquet", column="content"), paths), paths)
    assert paths["text"].read_bytes() == WHOLE


@pytest.mark.parametrize(
    ("content", "column", "message", "fix"),
    [
        pytest.param(
            '{"a": "x", "b": "y"}', None, "2 columns hold text, where one is wanted",
            "say which with `column`", id="two",
        ),
        pytest.param(
            '{"n": 1}', None, "0 columns hold text, where one is wanted",
            "say which with `column`", id="none",
        ),
        pytest.param(
            '{"a": "x"}', "b", "there is no column of texts named b", "correct `column`", id="gone"
        ),
        pytest.param(
            '{"b": 1}', "b", "there is no column of texts named b", "correct `column`", id="number"
        ),
        pytest.param(
            '{"b": ""}', "b", "source has no text", "name another file or `column`", id="empty"
        ),
    ],
)  # fmt: skip
def test_what_holds_no_text_is_refused(
    paths: dict[str, Path], content: str, column: str | None, message: str, fix: str
) -> None:
    paths["source"].write_text(content, encoding="utf-8")
    error = STAGE.explain(ran(TextParams(container="jsonl", column=column), paths))
    assert isinstance(error, InputError)
    assert (error.message, error.hint) == (message, fix)


def test_a_row_that_is_none_is_refused(paths: dict[str, Path]) -> None:
    paths["source"].write_text("[1]\n", encoding="utf-8")
    assert "line 1 is no row of columns" in ran(TextParams(container="jsonl"), paths)


def test_another_text_than_the_one_named_is_no_proof(paths: dict[str, Path]) -> None:
    log = ran(TextParams(container="jsonl"), paths)
    paths["text"].write_bytes(b"other")
    with pytest.raises(UnreadableOutputError, match="the text that it names"):
        parse(log, paths)
    with pytest.raises(UnreadableOutputError, match="its word on the text"):
        parse("", paths)
