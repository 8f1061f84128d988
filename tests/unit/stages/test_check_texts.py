"""Texts are compared by their content, whatever they are called."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages.check_texts import STAGE, TOOL, CheckTextsParams, argv, main, parse

PARAMS = CheckTextsParams(labels=("wiki", "code"))


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    texts = {"evaluation": "measured on", "text1": "wiki text", "text2": "def code(): ..."}
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return {name: tmp_path / name for name in (*texts, "digests")}


def ran(paths: dict[str, Path]) -> str:
    return CliRunner().invoke(main, argv(PARAMS, paths)[1:]).output


def test_argv(paths: dict[str, Path]) -> None:
    assert argv(PARAMS, paths) == (
        TOOL,
        *("--evaluation", str(paths["evaluation"])),
        *("--text", "wiki", str(paths["text1"]), "--text", "code", str(paths["text2"])),
        *("--output", str(paths["digests"])),
    )


def test_different_texts_are_known_by_their_digests(paths: dict[str, Path]) -> None:
    result = parse(ran(paths), paths)

    assert result.calibration.keys() == {"wiki", "code"}
    assert len({result.evaluation, *result.calibration.values()}) == 3


def test_a_calibration_text_that_is_the_evaluation_text_is_refused(paths: dict[str, Path]) -> None:
    paths["text2"].write_bytes(paths["evaluation"].read_bytes())

    failed = STAGE.explain(ran(paths))

    assert isinstance(failed, InputError)
    assert failed.message == "calibration text code: it is the evaluation text"
    assert failed.hint is not None
    assert not paths["digests"].exists()


def test_one_text_under_two_names_is_refused(paths: dict[str, Path]) -> None:
    paths["text2"].write_bytes(paths["text1"].read_bytes())

    failed = STAGE.explain(ran(paths))

    assert isinstance(failed, InputError)
    assert failed.message == "calibration texts wiki and code are one text"


def test_without_its_file_there_is_no_result(paths: dict[str, Path]) -> None:
    with pytest.raises(UnreadableOutputError, match="the digests of the texts"):
        parse("", paths)
