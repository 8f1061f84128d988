"""That the probe text is a text of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from llamacpp_pipeline.datasets.overlap import shared_share
from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages.check_probe import STAGE, CheckProbeParams, checked, main

PASSAGE = "one two three four five six seven eight nine ten eleven twelve"
OTHER = " ".join(f"word{at}" for at in range(600))


def test_the_share_counts_words_in_passages_of_both() -> None:
    assert shared_share(f"{PASSAGE} {OTHER}", [f"x {PASSAGE.upper()}! y"]) == pytest.approx(
        12 / 612
    )
    assert shared_share(OTHER, ["word1 word2 word3"]) == 0
    assert shared_share("too short", ["too short"]) == 0
    assert shared_share("", [OTHER]) == 0


@pytest.fixture
def texts(tmp_path: Path) -> dict[str, Path]:
    written = {
        "probe": OTHER,
        "evaluation": f"{PASSAGE}, {PASSAGE}",
        "text1": PASSAGE,
        "other": "another",
    }
    for name, text in written.items():
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    return {name: tmp_path / f"{name}.txt" for name in written}


def test_texts_of_their_own_pass(texts: dict[str, Path]) -> None:
    found = checked(texts["probe"], texts["evaluation"], {"code": texts["text1"]})
    assert (found.shared_with_evaluation, found.shared_with_calibration) == (0, 0)


@pytest.mark.parametrize(
    ("same", "message"), [("evaluation", "is the evaluation text"), ("text1", "text code")]
)
def test_one_text_under_two_names_is_refused(
    texts: dict[str, Path], same: str, message: str
) -> None:
    texts["probe"].write_bytes(texts[same].read_bytes())
    with pytest.raises(InputError, match=message):
        checked(texts["probe"], texts["evaluation"], {"code": texts["text1"]})


def test_passages_of_the_evaluation_text_are_refused(texts: dict[str, Path]) -> None:
    texts["probe"].write_text(f"{OTHER} {PASSAGE}", encoding="utf-8")
    with pytest.raises(InputError, match=r"2\.0 % of the probe text") as caught:
        checked(texts["probe"], texts["evaluation"], {})
    assert "sensitivity.corpus" in (caught.value.hint or "")


def test_the_program_writes_what_the_stage_reads(texts: dict[str, Path], tmp_path: Path) -> None:
    paths = {**texts, "report": tmp_path / "texts.json"}
    with pytest.raises(UnreadableOutputError):
        STAGE.parse("", paths)
    words = STAGE.argv(CheckProbeParams(labels=("code",)), paths)
    ran = CliRunner().invoke(main, list(words[1:]))
    assert ran.exit_code == 0, ran.output
    assert STAGE.parse(ran.output, paths).shared_with_calibration == 0
