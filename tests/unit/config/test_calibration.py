"""`calibration:` takes one text, or several with limits and weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamacpp_pipeline.config.load import LoadedConfig, load
from llamacpp_pipeline.config.template import commented
from llamacpp_pipeline.errors import ConfigError

BASE = """\
model: {demo: true}
evaluation: {corpus: {demo: evaluation}}
variants: [Q8_0]
calibration:
"""
TEXTS = """\
  n_chunks: 50
  texts:
    - {path: wiki.txt, n_chunks: 100}
    - {path: code.txt, weight: 2, name: code}
    - {demo: calibration}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("wiki.txt", "code.txt"):
        Path(name).write_text(name)
    return tmp_path


def loaded(calibration: str, *overrides: str) -> LoadedConfig:
    Path("a.yaml").write_text(BASE + calibration, encoding="utf-8")
    return load(Path("a.yaml"), overrides=overrides)


def complaints(calibration: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(calibration, *overrides)
    return list(caught.value.evidence)


def test_several_texts_with_limits_weights_and_names() -> None:
    found = loaded(TEXTS)

    calibration = found.config.calibration
    assert calibration is not None
    assert [(t.label, t.n_chunks, t.weight) for t in calibration.texts] == [
        ("wiki.txt", 100, 1),
        ("code", None, 2),
        ("demo-calibration", None, 1),
    ]
    assert [path for path, _ in calibration.each] == [f"calibration.texts.{n}" for n in range(3)]
    assert found.file("calibration.texts.1.path") == Path("code.txt")


def test_one_text_or_several_but_not_both_and_not_none() -> None:
    both = "  corpus: {path: wiki.txt}\n" + TEXTS
    message = "a.yaml:5:3: calibration: give exactly one of `corpus` (a text) and `texts`"

    assert complaints(both)[0].startswith(message)
    assert "give exactly one of `corpus`" in complaints("  n_ctx: 256\n")[0]
    assert "give exactly one of `corpus`" in complaints("  texts: []\n")[0]


def test_a_later_layer_takes_the_place_of_the_other_form() -> None:
    several = loaded("  corpus: {path: wiki.txt}\n", "calibration.texts=[{path: code.txt}]")
    one = loaded(TEXTS, "calibration.corpus={path: wiki.txt}")

    assert several.config.calibration is not None
    assert several.config.calibration.corpus is None
    assert one.config.calibration is not None
    assert one.config.calibration.texts == ()


def test_a_text_that_is_not_there_is_named_with_its_place() -> None:
    told = complaints("  texts:\n    - {path: wiki.txt}\n    - {path: gone.txt}\n")

    assert told == ["a.yaml:7:14: calibration.texts.1.path: there is no file gone.txt"]


def test_a_text_that_is_measured_on_is_refused() -> None:
    (told,) = complaints("  texts: [{path: wiki.txt}, {demo: evaluation}]\n")

    assert told.startswith("a.yaml:5:29: calibration.texts.1: is the evaluation text too")


def test_a_text_named_twice_is_refused() -> None:
    (told,) = complaints("  texts: [{path: wiki.txt}, {path: wiki.txt, n_chunks: 3}]\n")

    assert "named twice" in told
    assert "weight: 2" in told


def test_two_texts_of_one_name_are_refused() -> None:
    (told,) = complaints("  texts: [{path: wiki.txt}, {path: code.txt, name: WIKI.txt}]\n")

    assert "a second text named WIKI.txt" in told


@pytest.mark.parametrize(("weight", "told"), [("0.5", "a whole number"), ("0", "greater than 0")])
def test_a_weight_is_a_whole_number(weight: str, told: str) -> None:
    (said,) = complaints(f"  texts: [{{path: wiki.txt, weight: {weight}}}]\n")

    assert "calibration.texts.0.weight" in said
    assert told in said


def test_an_unknown_key_of_a_text_is_told_with_the_near_one() -> None:
    (said,) = complaints("  texts: [{path: wiki.txt, weights: 2}]\n")

    assert "unknown key" in said
    assert "weight" in said


def test_more_texts_than_a_merge_takes_are_refused() -> None:
    texts = ", ".join(f"{{path: wiki.txt, name: n{n}}}" for n in range(33))

    assert any("at most 32" in said for said in complaints(f"  texts: [{texts}]\n"))


def test_several_texts_survive_being_written_out(folder: Path) -> None:
    before = loaded(TEXTS)
    (folder / "sub").mkdir()

    text = commented(before, folder=folder / "sub")
    (folder / "sub" / "b.yaml").write_text(text, encoding="utf-8")
    after = load(folder / "sub" / "b.yaml")

    assert before.config.calibration is not None
    assert after.config.calibration is not None
    paths = [text.path for text in after.config.calibration.texts]
    assert paths == ["../wiki.txt", "../code.txt", None]
    assert [t.weight for t in after.config.calibration.texts] == [1, 2, 1]
