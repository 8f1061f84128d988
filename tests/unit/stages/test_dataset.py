"""The dataset stage: what it writes, what it says of it, what it refuses."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from llamacpp_pipeline.datasets import choice_file
from llamacpp_pipeline.datasets.index import IndexEntry, read_index
from llamacpp_pipeline.datasets.layouts import Layout
from llamacpp_pipeline.datasets.rows import Container
from llamacpp_pipeline.datasets.templates import templates
from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages.dataset import (
    STAGE,
    TOOL,
    DatasetParams,
    DatasetResult,
    PartParams,
    argv,
    main,
    parse,
)

HIDDEN = "the secret text"
ROW = {"question": f"Which is {HIDDEN}?", "answers": ["this", f"that {HIDDEN}"], "gold": 1}


def params(
    *, container: Container = "jsonl", layout: Layout = "task", sha256: str | None = None
) -> DatasetParams:
    part = PartParams(label="", container=container, layout=layout, sha256=sha256)
    return DatasetParams(
        name="mine",
        form="multiple-choice",
        template=templates()["question-answer"],
        parts=(part,),
        n_tasks=3,
        seed=1,
    )


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    rows = [{"id": f"q{at}", **ROW} for at in range(5)]
    lines = [json.dumps(row) for row in rows] + ['{"id": "bad"}']
    (tmp_path / "source").write_text("\n".join(lines), encoding="utf-8")
    names = ("tasks", "index", "report")
    return {"source1": tmp_path / "source", **{name: tmp_path / name for name in names}}


def ran(asked: DatasetParams, paths: dict[str, Path]) -> str:
    return CliRunner().invoke(main, argv(asked, paths)[1:]).output


def test_argv(paths: dict[str, Path]) -> None:
    assert argv(params(), paths) == (
        TOOL,
        *("--source", str(paths["source1"])),
        *("--params", params().model_dump_json()),
        *("--tasks", str(paths["tasks"])),
        *("--index", str(paths["index"])),
        *("--report", str(paths["report"])),
    )


def test_what_is_written_and_what_is_said_of_it(paths: dict[str, Path]) -> None:
    log = ran(params(), paths)
    result = parse(log, paths)
    assert log == "3 tasks chosen of 6 rows, 1 malformed\n"
    assert (result.n_read, result.n_chosen, result.n_asked, result.seed) == (6, 3, 3, 1)
    assert [(row.row, row.why) for row in result.malformed] == [("line 6", "no `question`")]
    assert (result.template, result.template_version) == ("question-answer", 1)
    assert result.sources == (hashlib.sha256(paths["source1"].read_bytes()).hexdigest(),)
    data = paths["tasks"].read_bytes()
    assert result.sha256 == hashlib.sha256(data).hexdigest()
    assert [task.question for task in choice_file.decode(data)] == [
        f"Question: Which is {HIDDEN}?\nAnswer:"
    ] * 3
    assert set(result.ids) < {f"q{at}" for at in range(5)}
    assert read_index(paths["index"]) == tuple(
        IndexEntry(id=name, gold=1, n_answers=2) for name in result.ids
    )


def test_no_text_of_a_set_is_in_log_index_or_record(paths: dict[str, Path]) -> None:
    log = ran(params(), paths)
    said = log + paths["index"].read_text() + paths["report"].read_text()
    assert HIDDEN not in said
    assert HIDDEN.encode() in paths["tasks"].read_bytes()


def test_text_that_cannot_be_read_is_not_quoted(paths: dict[str, Path]) -> None:
    paths["source1"].write_text(f'{{"question": "{HIDDEN}", oops\n' * 3, encoding="utf-8")
    log = ran(params(), paths)
    assert "3 of 3 rows are malformed" in log
    assert HIDDEN not in log


def test_a_source_of_another_digest_is_refused(paths: dict[str, Path]) -> None:
    log = ran(params(sha256="0a" * 32), paths)
    error = STAGE.explain(log)
    assert isinstance(error, InputError)
    assert error.message == "source is not the file that was expected: its sha256 differs"
    assert error.evidence[0] == f"expected {'0a' * 32}"
    assert not paths["tasks"].exists()


def test_a_folder_is_read_by_its_pattern(paths: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "files"
    for name in ("law/test/0.jsonl", "art/test/1.jsonl", "art/notes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(ROW), encoding="utf-8")
    asked = params().model_copy(
        update={
            "parts": (PartParams(label="", pattern="*.jsonl", container="jsonl", layout="task"),)
        }
    )
    found = {**paths, "source1": folder}
    assert sorted(parse(ran(asked, found), found).ids) == ["0:1", "1:1"]
    (folder / "law/test/0.jsonl").unlink()
    (folder / "art/test/1.jsonl").unlink()
    assert "no file matches *.jsonl" in ran(asked, found)


def test_files_of_one_name_in_several_folders_are_told_apart(
    paths: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    for name in ("law/0.jsonl", "art/0.jsonl"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(ROW), encoding="utf-8")
    asked = params().model_copy(
        update={
            "parts": (PartParams(label="", pattern="*.jsonl", container="jsonl", layout="task"),)
        }
    )
    found = {**paths, "source1": folder}
    assert sorted(parse(ran(asked, found), found).ids) == ["art/0:1", "law/0:1"]


@pytest.mark.parametrize("broken", ["tasks", "index", "report"])
def test_a_report_that_does_not_fit_its_files_is_no_proof(
    paths: dict[str, Path], broken: str
) -> None:
    log = ran(params(), paths)
    paths[broken].write_text("", encoding="utf-8")
    with pytest.raises(UnreadableOutputError):
        parse(log, paths)


def test_an_index_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "index.jsonl").write_text('{"id": "a"}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"index\.jsonl: not the index of a dataset step"):
        read_index(tmp_path / "index.jsonl")


def test_the_result_can_be_kept(paths: dict[str, Path]) -> None:
    result = parse(ran(params(), paths), paths)
    assert DatasetResult.model_validate_json(result.model_dump_json()) == result
