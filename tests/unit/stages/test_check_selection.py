"""That the text candidates are chosen on is a text of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages.check_selection import STAGE, CheckSelectionParams, checked, main

PASSAGE = "one two three four five six seven eight nine ten eleven twelve"
OWN = " ".join(f"word{at}" for at in range(600))


@pytest.fixture
def texts(tmp_path: Path) -> dict[str, Path]:
    written = {"selection": OWN, "evaluation": PASSAGE, "probe": f"a {PASSAGE}", "text1": "another"}
    for name, text in written.items():
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    return {name: tmp_path / f"{name}.txt" for name in written}


def test_one_text_under_two_names_is_refused(texts: dict[str, Path]) -> None:
    texts["text1"].write_bytes(texts["selection"].read_bytes())

    with pytest.raises(
        InputError, match="the text to choose on is calibration text code"
    ) as caught:
        checked(texts["selection"], {"calibration text code": texts["text1"]})
    assert "selection.corpus" in (caught.value.hint or "")


@pytest.mark.parametrize("other", ["evaluation", "probe"])
def test_passages_of_another_text_are_refused(texts: dict[str, Path], other: str) -> None:
    texts["selection"].write_text(f"{OWN} {PASSAGE}", encoding="utf-8")

    message = rf"2\.0 % of the text to choose on stands in the {other} text"
    with pytest.raises(InputError, match=message):
        checked(texts["selection"], {f"the {other} text": texts[other]})


def test_the_program_writes_what_the_stage_reads(texts: dict[str, Path], tmp_path: Path) -> None:
    paths = {**texts, "report": tmp_path / "texts.json"}
    with pytest.raises(UnreadableOutputError):
        STAGE.parse("", paths)
    words = STAGE.argv(CheckSelectionParams(labels=("calibration",)), paths)
    ran = CliRunner().invoke(main, list(words[1:]))

    assert ran.exit_code == 0, ran.output
    others = ("the evaluation text", "the probe text", "the calibration text")
    assert STAGE.parse(ran.output, paths).shared == dict.fromkeys(others, 0)
