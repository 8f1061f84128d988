"""Measured sensitivities in a plan and in a configuration."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from llamacpp_pipeline.config.choose import CONFIGS
from llamacpp_pipeline.config.load import load
from llamacpp_pipeline.errors import ConfigError
from llamacpp_pipeline.plan.budget import budget, memory_bytes
from llamacpp_pipeline.plan.expand import expand
from llamacpp_pipeline.plan.probing import passes
from llamacpp_pipeline.plan.sizes import Known
from llamacpp_pipeline.plan.sources import HubCommit, ModelHints, Source
from llamacpp_pipeline.plan.step import OutputRef, Plan
from llamacpp_pipeline.plan.targets import wish
from llamacpp_pipeline.stages.probe import ProbeParams
from llamacpp_pipeline.stages.quantize_target import TargetParams
from llamacpp_pipeline.stages.refine import RefineParams
from tests.unit.plan.world import CALIBRATED, CALIBRATION, COMMIT, config, leaf

PROBE = {"corpus": {"demo": "probe"}, "n_ctx": 128, "types": ["iq3_s"], "refine": None}
REFINED = {**PROBE, "refine": {"rounds": 3, "minutes": 5}}
SOURCES = replace(CALIBRATED, sensitivity=leaf("probe.txt"))
SIZED = [{"ftype": "Q4_K_M"}, {"bpw": 4.5}, {"bpw": 5, "sensitivity": "prior"}]


def planned(**said: object) -> Plan:
    whole = {"calibration": CALIBRATION, "sensitivity": PROBE, "variants": SIZED, **said}
    return expand(config(**whole), SOURCES)


def test_the_weights_go_to_the_variants_by_size_that_want_them() -> None:
    plan = planned()
    measured = OutputRef(step="sensitivity", output="weights")
    assert plan.step("quantize/4.5bpw").inputs["weights"] == measured
    assert "weights" not in plan.step("quantize/5bpw").inputs
    assert "weights" not in plan.step("quantize/Q4_K_M").inputs


def test_refined_weights_stand_between_the_sensitivities_and_each_variant() -> None:
    plan = planned(sensitivity=REFINED)
    refined = OutputRef(step="refine/4.5bpw", output="weights")
    assert plan.step("quantize/4.5bpw").inputs["weights"] == refined
    step = plan.step("refine/4.5bpw")
    assert isinstance(step.params, RefineParams)
    assert (step.params.rounds, step.params.minutes, step.params.n_ctx) == (3, 5, 128)
    assert step.params.target == plan.step("quantize/4.5bpw").params
    assert set(step.inputs) == {"model", "imatrix", "corpus", "sensitivities", "measured"}
    assert "refine/5bpw" not in {one.key for one in plan.steps}


def test_what_a_size_depends_on_goes_to_its_refinement_too() -> None:
    plan = planned(sensitivity=REFINED, variants=[{"ftype": "Q4_K_M"}, {"match": "Q4_K_M"}])
    step = plan.step("refine/Q4_K_M-matched")
    assert step.inputs["match"] == OutputRef(step="quantize/Q4_K_M", output="gguf")


def test_mixes_are_chosen_on_the_text_for_choices_where_there_is_one() -> None:
    sources = replace(SOURCES, selection=leaf("selection.txt"))
    said = {"calibration": CALIBRATION, "sensitivity": REFINED, "variants": SIZED}
    plan = expand(config(**said, selection={"corpus": {"demo": "selection"}}), sources)
    step = plan.step("refine/4.5bpw")
    assert step.inputs["validation"] == leaf("selection.txt")
    assert "check-selection" in step.after
    keys = {one.key for one in plan.steps}
    assert "check-selection" in keys
    assert "reference-selection" not in keys


def test_a_candidate_is_refined_with_its_own_imatrix() -> None:
    several = {"texts": [{"demo": "calibration"}, {"path": "b.txt", "name": "b"}]}
    asked = {"bpw": 4.5, "candidates": [{"name": "only-b", "imatrix": "b"}]}
    whole = config(calibration=several, sensitivity=REFINED, variants=[asked])
    sources = replace(SOURCES, calibration=(leaf("a.txt"), leaf("b.txt")))
    plan = expand(whole, sources)
    own = OutputRef(step="imatrix/b", output="imatrix")
    assert plan.step("refine/4.5bpw~only-b").inputs["imatrix"] == own
    weights = OutputRef(step="refine/4.5bpw~only-b", output="weights")
    assert plan.step("quantize/4.5bpw~only-b").inputs["weights"] == weights


def test_a_variant_without_the_imatrix_keeps_the_prior() -> None:
    plan = planned(variants=[{"bpw": 4.5, "imatrix": False}])
    assert "weights" not in plan.step("quantize/4.5bpw").inputs


def test_the_probe_waits_for_the_check_of_its_text() -> None:
    plan = planned()
    keys = [step.key for step in plan.steps]
    order = ["check-probe", "probe", "sensitivity", "quantize/4.5bpw"]
    assert sorted(order, key=keys.index) == order
    assert "check-probe" in plan.step("probe").after
    assert set(plan.step("check-probe").inputs) == {"probe", "evaluation", "text1"}
    assert set(plan.step("probe").inputs) == {"model", "imatrix", "corpus"}
    assert set(plan.step("curves").inputs) == {"model", "imatrix"}


def test_without_the_section_nothing_is_measured() -> None:
    plan = planned(sensitivity=None, variants=SIZED[:2])
    assert not {"probe", "curves", "sensitivity"} & {step.key for step in plan.steps}


def test_a_probe_text_on_the_hub_is_fetched() -> None:
    hub = {"repo": "some/texts", "repo_type": "dataset", "file": "probe.txt"}
    asked = config(sensitivity={"corpus": {"hub": hub}}, calibration=CALIBRATION, variants=SIZED)
    plan = expand(asked, replace(SOURCES, sensitivity=HubCommit(commit=COMMIT)))
    text = OutputRef(step="fetch-sensitivity", output="files", member="probe.txt")
    assert plan.step("probe").inputs["corpus"] == text


@pytest.mark.parametrize("same", [CALIBRATED.evaluation, CALIBRATED.calibration[0]])
def test_one_text_under_two_names_is_refused_before_anything_runs(same: Source) -> None:
    asked = config(calibration=CALIBRATION, sensitivity=PROBE, variants=SIZED)
    with pytest.raises(ConfigError, match="the probe text is") as caught:
        expand(asked, replace(SOURCES, sensitivity=same))
    assert "sensitivity.corpus" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        pytest.param({"corpus": {"demo": "evaluation"}}, "figures would flatter", id="evaluation"),
        pytest.param({"corpus": {"demo": "calibration"}}, "calibration text too", id="calibration"),
        pytest.param({"corpus": {"demo": "probe"}, "types": ["q9"]}, "q9", id="type"),
        pytest.param(
            {"corpus": {"demo": "probe"}, "n_chunks": None}, "needs half to decide", id="no half"
        ),
    ],
)
def test_a_section_that_cannot_work_is_refused(said: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(sensitivity=said, calibration=CALIBRATION, variants=SIZED)


def test_measured_sensitivities_need_something_that_measures_them() -> None:
    with pytest.raises(ValidationError, match="add a section `sensitivity`"):
        config(calibration=CALIBRATION, variants=[{"bpw": 4.5, "sensitivity": "measured"}])


def test_a_quality_is_a_parameter_and_what_predicts_it_an_input() -> None:
    plan = planned(variants=[{"kld": 0.01}, {"match": "kld0.01"}])
    step = plan.step("quantize/kld0.01")
    assert step.params == TargetParams(kld=0.01)
    assert step.inputs["sensitivities"] == OutputRef(step="sensitivity", output="report")
    assert step.inputs["weights"] == OutputRef(step="sensitivity", output="weights")
    assert wish(step) == "the smallest of a mean KLD of 0.01, as predicted"
    sizes = {one.key: one.output_bytes for one in budget(plan, SOURCES).steps}
    assert sizes["quantize/kld0.01"] is None  # that is known once the probe has measured
    assert sizes["quantize/kld0.01-matched"] is None


def test_a_candidate_can_take_the_prior() -> None:
    variant = {"bpw": 4.5, "candidates": [{"name": "prior", "sensitivity": "prior"}]}
    plan = planned(variants=[variant])
    assert "weights" in plan.step("quantize/4.5bpw~base").inputs
    assert "weights" not in plan.step("quantize/4.5bpw~prior").inputs


def test_the_published_recipe_measures_and_compares_with_the_prior() -> None:
    asked = load(CONFIGS / "demo-sensitivity.yaml").config
    plan = expand(asked, replace(SOURCES, selection=leaf("selection.txt")))
    assert "weights" in plan.step("quantize/Q4_K_M-measured").inputs
    assert "weights" not in plan.step("quantize/Q4_K_M-prior").inputs


def test_a_plan_says_what_probing_takes() -> None:
    asked = config(
        calibration=CALIBRATION,
        sensitivity={**PROBE, "n_chunks": 4, "types": ["iq3_s", "q5_K"]},
        variants=SIZED,
    )
    hints = ModelHints(vocab_size=1000, n_parameters=10**6, tensor_bytes=2 * 10**6, n_layers=3)
    long = replace(leaf("probe.txt"), size_bytes=10**6)
    sources = replace(SOURCES, sensitivity=long, hints=hints)
    plan = expand(asked, sources)
    known = Known(plan=plan, sources=sources, finished={})
    step = plan.step("probe")
    assert isinstance(step.params, ProbeParams)
    assert passes(step.params, hints) == 2 + 2 * 26
    assert passes(step.params.model_copy(update={"bands": 1}), hints) == 2 + 2 * 10
    memory = memory_bytes(step, known)
    short = memory_bytes(plan.step("reference"), known)
    assert memory is not None
    assert short is not None
    assert memory - short == 4 * 1000 * 4 * 63  # floats for each token of each position scored
