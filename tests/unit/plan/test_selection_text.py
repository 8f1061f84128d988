"""A text of its own to choose on, in a plan and in a configuration."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from llamacpp_pipeline.config.schema import PipelineConfig
from llamacpp_pipeline.errors import ConfigError
from llamacpp_pipeline.plan.expand import expand
from llamacpp_pipeline.plan.fingerprint import fingerprints
from llamacpp_pipeline.plan.sources import HubCommit, Source
from llamacpp_pipeline.plan.step import RECORD, OutputRef, Plan
from llamacpp_pipeline.stages.kld import KldParams
from llamacpp_pipeline.stages.perplexity import PerplexityParams
from tests.unit.plan.world import CALIBRATED, CALIBRATION, COMMIT, config, identity, leaf

SELECTION = {"corpus": {"demo": "selection"}, "n_ctx": 128, "n_chunks": 50}
CHOICE = {"ftype": "Q4_K_M", "name": "Q4", "candidates": ["Q4_K_S"]}
PROBE = {"corpus": {"demo": "probe"}}
SOURCES = replace(CALIBRATED, selection=leaf("choose.txt"))


def asked(**said: object) -> PipelineConfig:
    given = {"variants": [{"ftype": "Q8_0"}, CHOICE], "selection": SELECTION, **said}
    return config(calibration=CALIBRATION, **given)


def planned(**said: object) -> Plan:
    return expand(asked(**said), SOURCES)


def test_the_choice_is_made_on_its_own_text_and_the_kept_file_judged_afterwards() -> None:
    plan = planned()
    keys = [step.key for step in plan.steps]

    assert keys[-7:] == [
        *("quantize/Q4~base", "kld-selection/Q4~base"),
        *("quantize/Q4~Q4_K_S", "kld-selection/Q4~Q4_K_S"),
        *("select/Q4", "kld/Q4", "bench/Q4"),
    ]
    assert not [key for key in keys if key.startswith("kld/Q4~")]
    chosen = plan.step("select/Q4").inputs
    assert chosen["quality2"] == OutputRef(step="kld-selection/Q4~Q4_K_S", output=RECORD)
    judged = plan.step("kld/Q4").inputs
    assert judged["model"] == OutputRef(step="select/Q4", output="gguf")
    assert judged["logits"] == OutputRef(step="reference", output="logits")


def test_the_reference_is_measured_on_it_with_the_cut_asked_for() -> None:
    evaluation = {"corpus": {"demo": "evaluation"}, "n_ctx": 256, "n_chunks": 9, "n_ubatch": 64}
    plan = planned(evaluation=evaluation)
    reference, candidate = (plan.step(k) for k in ("reference-selection", "kld-selection/Q4~base"))

    assert reference.stage.name == "reference"
    assert reference.params == PerplexityParams(n_ctx=128, n_chunks=50, n_ubatch=64)
    assert reference.inputs["corpus"] == leaf("choose.txt")
    assert candidate.stage.name == "kld"
    assert candidate.params == KldParams(n_ctx=128, n_chunks=50, n_ubatch=64)
    assert candidate.inputs["logits"] == OutputRef(step="reference-selection", output="logits")
    assert "check-selection" in reference.after


def test_what_is_not_said_of_the_cut_is_the_evaluations_and_the_whole_text() -> None:
    evaluation = {"corpus": {"demo": "evaluation"}, "n_ctx": 256, "n_chunks": 9}
    plan = planned(evaluation=evaluation, selection={"corpus": {"demo": "selection"}})

    assert plan.step("reference-selection").params == PerplexityParams(n_ctx=256, n_chunks=None)


def test_it_is_compared_with_every_other_text() -> None:
    sources = replace(SOURCES, sensitivity=leaf("probe.txt"))
    plan = expand(asked(sensitivity=PROBE), sources)

    assert plan.step("check-selection").inputs == {
        "selection": leaf("choose.txt"),
        "evaluation": sources.evaluation,
        "probe": leaf("probe.txt"),
        "text1": sources.calibration[0],
    }
    assert "probe" not in planned().step("check-selection").inputs


def test_with_nothing_to_choose_from_it_is_not_measured_on() -> None:
    plain = config(calibration=CALIBRATION, variants=[{"ftype": "Q8_0"}])
    idle = config(calibration=CALIBRATION, variants=[{"ftype": "Q8_0"}], selection=SELECTION)

    assert idle.selection_text is None
    assert expand(idle, CALIBRATED) == expand(plain, CALIBRATED)


def test_steps_that_it_does_not_concern_are_the_same_as_without_it() -> None:
    without, with_text = (
        fingerprints(plan, identity=identity, machine="here")
        for plan in (planned(selection={}), planned())
    )

    changed = {key for key in without.keys() & with_text if without[key] != with_text[key]}
    assert changed == {"select/Q4", "bench/Q4"}
    assert without.keys() - with_text == {"kld/Q4~base", "kld/Q4~Q4_K_S"}


def test_a_text_on_the_hub_is_fetched_and_one_in_columns_becomes_text() -> None:
    hub = {"repo": "some/texts", "repo_type": "dataset", "file": "train.parquet"}
    sources = replace(SOURCES, selection=HubCommit(commit=COMMIT))
    plan = expand(asked(selection={"corpus": {"hub": hub}}), sources)

    file = OutputRef(step="fetch-selection", output="files", member="train.parquet")
    assert plan.step("text/selection").inputs["source"] == file
    text = OutputRef(step="text/selection", output="text")
    assert plan.step("reference-selection").inputs["corpus"] == text
    assert plan.step("check-selection").inputs["selection"] == text


@pytest.mark.parametrize(
    ("same", "named"),
    [
        (CALIBRATED.evaluation, "the evaluation text"),
        (CALIBRATED.calibration[0], "a calibration text"),
        (leaf("probe.txt"), "the probe text"),
    ],
)
def test_one_text_under_two_names_is_refused_before_anything_runs(same: Source, named: str) -> None:
    sources = replace(CALIBRATED, selection=same, sensitivity=leaf("probe.txt"))

    with pytest.raises(ConfigError, match=f"the text to choose on is {named}") as caught:
        expand(asked(sensitivity=PROBE), sources)
    assert "selection.corpus" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        pytest.param({"corpus": {"demo": "evaluation"}}, "the evaluation text", id="evaluation"),
        pytest.param({"corpus": {"demo": "calibration"}}, "calibration text too", id="calibration"),
        pytest.param({"corpus": {"demo": "probe"}}, "is the probe text too", id="probe"),
        pytest.param({"n_ctx": 128}, "give `corpus` too", id="cut of nothing"),
        pytest.param({"n_chunks": 10}, "give `corpus` too", id="chunks of nothing"),
    ],
)
def test_a_text_that_cannot_serve_is_refused(selection: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        asked(sensitivity=PROBE, selection=selection)
