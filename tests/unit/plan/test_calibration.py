"""One text: one step. Several: a step each, an exact merge; a given imatrix is checked first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llamacpp_pipeline.errors import ConfigError
from llamacpp_pipeline.plan.fingerprint import fingerprints
from llamacpp_pipeline.plan.sources import Source, Sources
from llamacpp_pipeline.plan.step import OutputRef, Plan
from llamacpp_pipeline.stages import check_texts, imatrix, imatrix_check, imatrix_merge
from llamacpp_pipeline.stages.check_texts import CheckTextsParams
from llamacpp_pipeline.stages.imatrix import ImatrixParams
from llamacpp_pipeline.stages.imatrix_merge import MergeParams
from tests.unit.plan.world import (
    CALIBRATED,
    CALIBRATION,
    HERE,
    ON_THE_HUB,
    identity,
    leaf,
    plan,
)

REFERENCE = OutputRef(step="convert", output="gguf")
TEXTS = [
    {"path": "wiki.txt", "name": "wiki", "n_chunks": 100},
    {"path": "code.txt", "name": "code", "weight": 4},
    {"hub": {"repo": "c/t", "file": "chat.txt"}, "weight": 2},
]
HUB_TEXT = ON_THE_HUB.evaluation


def several(*sources: Source, texts: list[dict[str, object]] | None = None) -> Plan:
    calibration = {"texts": texts or TEXTS[: len(sources)], "n_ctx": 128, "n_chunks": 50}
    return plan(replace(HERE, calibration=sources), calibration=calibration)


def keys(made: Plan) -> list[str]:
    return [step.key for step in made.steps]


def test_one_text_is_one_step_however_it_is_written() -> None:
    one = plan(CALIBRATED, calibration=CALIBRATION)
    listed = {"texts": [{"demo": "calibration", "weight": 3}], "n_ctx": 128}
    as_list = plan(CALIBRATED, calibration=listed)

    assert keys(one) == keys(as_list)
    assert not {"check-texts", "imatrix/demo-calibration"} & set(keys(one))
    of = [fingerprints(made, identity=identity, machine="m") for made in (one, as_list)]
    assert of[0] == of[1]


def test_the_limit_of_the_only_text_of_a_list_counts() -> None:
    made = several(leaf("wiki.txt"))

    assert made.step("imatrix").params == ImatrixParams(n_ctx=128, n_chunks=100)


def test_each_text_has_a_step_and_the_merge_comes_last() -> None:
    made = several(leaf("wiki.txt"), leaf("code.txt"))

    assert [key for key in keys(made) if "imatrix" in key] == [
        "imatrix/wiki",
        "imatrix/code",
        "imatrix",
    ]
    first, second, merged = (made.step(k) for k in ("imatrix/wiki", "imatrix/code", "imatrix"))
    assert first.stage is imatrix.STAGE
    assert first.params == ImatrixParams(n_ctx=128, n_chunks=100)
    assert second.params == ImatrixParams(n_ctx=128, n_chunks=50)
    assert second.inputs == {"model": REFERENCE, "corpus": leaf("code.txt")}
    assert merged.stage is imatrix_merge.STAGE
    assert merged.params == MergeParams(weights=(1, 4))
    assert merged.inputs == {
        "part1": OutputRef(step="imatrix/wiki", output="imatrix"),
        "part2": OutputRef(step="imatrix/code", output="imatrix"),
    }
    assert made.step("quantize/Q8_0").inputs["imatrix"] == OutputRef(
        step="imatrix", output="imatrix"
    )


def test_a_weight_changes_the_merge_and_no_text() -> None:
    def prints(weight: int) -> dict[str, str]:
        texts = [TEXTS[0], {**TEXTS[1], "weight": weight}]
        made = several(leaf("wiki.txt"), leaf("code.txt"), texts=texts)
        return fingerprints(made, identity=identity, machine="m")

    four, five = prints(4), prints(5)

    changed = {key for key in four if four[key] != five[key]}
    assert "imatrix" in changed
    assert not {"imatrix/wiki", "imatrix/code", "reference"} & changed


def test_texts_on_the_hub_are_fetched_and_compared_when_they_are_here() -> None:
    made = several(leaf("wiki.txt"), leaf("code.txt"), HUB_TEXT)

    fetched = OutputRef(step="fetch-calibration/chat.txt", output="files", member="chat.txt")
    checked = made.step("check-texts")
    assert keys(made)[:2] == ["fetch-calibration/chat.txt", "check-texts"]
    assert checked.stage is check_texts.STAGE
    assert checked.params == CheckTextsParams(labels=("wiki", "code", "chat.txt"))
    assert checked.inputs == {
        "evaluation": HERE.evaluation,
        "text1": leaf("wiki.txt"),
        "text2": leaf("code.txt"),
        "text3": fetched,
    }
    assert made.step("imatrix/wiki").after == ("check-texts",)
    assert made.step("imatrix/chat.txt").inputs["corpus"] == fetched


def test_an_evaluation_text_on_the_hub_is_compared_too() -> None:
    sources = Sources(model=leaf("model"), evaluation=HUB_TEXT, calibration=(leaf("train.txt"),))

    made = plan(
        sources,
        evaluation={"corpus": {"hub": {"repo": "c/t", "file": "test.txt"}}},
        calibration=CALIBRATION,
    )

    assert made.step("imatrix").after == ("check-texts",)
    assert keys(made).index("check-texts") < keys(made).index("reference")


def test_each_text_must_be_another_than_the_evaluation_text() -> None:
    copy = replace(leaf("wiki.test.raw"), label="copy.txt")

    with pytest.raises(ConfigError, match="is the evaluation text") as caught:
        several(leaf("wiki.txt"), copy)

    assert caught.value.evidence[0] == "code: copy.txt"


def test_one_text_in_two_files_is_refused() -> None:
    with pytest.raises(ConfigError, match="calibration texts wiki and code are one text"):
        several(leaf("wiki.txt"), replace(leaf("wiki.txt"), label="copy.txt"))


def test_a_given_imatrix_is_checked_before_anything_costly() -> None:
    given = leaf("their.gguf")

    made = plan(replace(HERE, imatrix=given), imatrix={"path": "their.gguf"})

    checked = made.step("check-imatrix")
    assert checked.stage is imatrix_check.STAGE
    assert checked.inputs == {"model": REFERENCE, "imatrix": given}
    assert made.step("quantize/Q8_0").after == ("check-imatrix",)
    assert keys(made).index("check-imatrix") < keys(made).index("reference")


def test_the_check_does_not_change_what_a_variant_is() -> None:
    made = plan(replace(HERE, imatrix=leaf("their.gguf")), imatrix={"path": "their.gguf"})
    unchecked = replace(
        made,
        steps=tuple(replace(s, after=()) for s in made.steps if s.key != "check-imatrix"),
    )

    with_check, without = (
        fingerprints(p, identity=identity, machine="m") for p in (made, unchecked)
    )
    assert {**without, "check-imatrix": with_check["check-imatrix"]} == with_check


def test_every_step_gives_its_stage_the_inputs_it_takes() -> None:
    for step in several(leaf("wiki.txt"), leaf("code.txt"), HUB_TEXT).steps:
        stage = step.stage
        assert stage.inputs <= set(step.inputs) <= stage.inputs | stage.optional_inputs, step.key
        assert isinstance(step.params, stage.params), step.key
