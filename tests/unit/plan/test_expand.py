"""Configuration and sources to steps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llamacpp_pipeline.errors import ConfigError
from llamacpp_pipeline.plan.order import ordered
from llamacpp_pipeline.plan.sources import Sources
from llamacpp_pipeline.plan.step import OutputRef, Plan
from llamacpp_pipeline.stages import fetch, perplexity
from llamacpp_pipeline.stages.convert import ConvertParams
from llamacpp_pipeline.stages.fetch import FetchParams
from llamacpp_pipeline.stages.imatrix import ImatrixParams
from llamacpp_pipeline.stages.kld import KldParams
from llamacpp_pipeline.stages.perplexity import PerplexityParams
from llamacpp_pipeline.stages.quantize import QuantizeParams
from tests.unit.plan.world import (
    CALIBRATED,
    CALIBRATION,
    COMMIT,
    HERE,
    ON_THE_HUB,
    config,
    leaf,
    plan,
)

REFERENCE = OutputRef(step="convert", output="gguf")
ZIP = {"repo": "c/texts", "repo_type": "dataset", "file": "in/t.zip", "member": "raw/wiki.txt"}
HUB = {
    "model": {"repo": "a/Model"},
    "evaluation": {"corpus": {"hub": ZIP}},
    "imatrix": {"hub": {"repo": "u/GGUF", "file": "imatrix.gguf_file"}},
}


def keys(made: Plan) -> list[str]:
    return [step.key for step in made.steps]


def test_every_variant_is_made_and_measured_in_one_go() -> None:
    assert keys(plan()) == [
        "inspect",
        "weights",
        "convert",
        "reference",
        "kld/reference",
        "bench/reference",
        "quantize/Q8_0",
        "kld/Q8_0",
        "bench/Q8_0",
        "quantize/Q4_K_M",
        "kld/Q4_K_M",
        "bench/Q4_K_M",
    ]


def test_without_bench_nothing_is_timed() -> None:
    assert not [key for key in keys(plan(bench=None)) if key.startswith("bench")]


def test_a_calibration_text_makes_an_imatrix_that_variants_use_unless_they_say_not() -> None:
    made = plan(
        CALIBRATED,
        calibration=CALIBRATION,
        variants=[{"ftype": "Q8_0", "imatrix": False}, {"ftype": "Q4_K_M"}],
    )

    assert made.step("imatrix").inputs == {"model": REFERENCE, "corpus": CALIBRATED.calibration[0]}
    assert made.step("imatrix").params == ImatrixParams(n_ctx=128)
    assert made.step("quantize/Q8_0").inputs == {"model": REFERENCE}
    assert made.step("quantize/Q4_K_M").inputs == {
        "model": REFERENCE,
        "imatrix": OutputRef(step="imatrix", output="imatrix"),
    }


def test_a_given_imatrix_is_used_as_it_is() -> None:
    sources = replace(HERE, imatrix=leaf("imatrix.gguf"))

    made = plan(sources, imatrix={"path": "imatrix.gguf"})

    assert "imatrix" not in keys(made)
    assert made.step("quantize/Q8_0").inputs["imatrix"] == leaf("imatrix.gguf")


def test_what_is_on_the_hub_is_fetched_first_at_its_commit() -> None:
    made = plan(ON_THE_HUB, **HUB)

    assert keys(made)[:4] == ["fetch", "fetch-evaluation", "fetch-imatrix", "inspect"]
    assert made.step("fetch").params == FetchParams(
        repo="a/Model", commit=COMMIT, files=fetch.MODEL_FILES
    )
    assert made.step("fetch-evaluation").params == FetchParams(
        repo="c/texts",
        repo_type="dataset",
        commit=COMMIT,
        files=("in/t.zip",),
        member="raw/wiki.txt",
    )
    assert made.step("inspect").inputs == {"model": OutputRef(step="fetch", output="files")}
    assert made.step("reference").inputs["corpus"] == OutputRef(
        step="fetch-evaluation", output="files", member="in/wiki.txt"
    )
    assert made.step("quantize/Q8_0").inputs["imatrix"] == OutputRef(
        step="fetch-imatrix", output="files", member="imatrix.gguf_file"
    )


def test_a_calibration_text_on_the_hub_is_fetched_too() -> None:
    sources = Sources(
        model=leaf("model"),
        evaluation=leaf("wiki.test.raw"),
        calibration=(ON_THE_HUB.evaluation,),
    )

    made = plan(sources, calibration={"corpus": {"hub": {"repo": "c/t", "file": "train.txt"}}})

    assert keys(made)[0] == "fetch-calibration"
    assert made.step("imatrix").inputs["corpus"] == OutputRef(
        step="fetch-calibration", output="files", member="train.txt"
    )


def test_the_cut_of_the_text_is_the_same_for_reference_and_kld() -> None:
    made = plan(evaluation={"corpus": {"demo": "evaluation"}, "n_ctx": 64, "n_chunks": 3})

    assert made.step("reference").stage is perplexity.REFERENCE
    assert made.step("reference").params == PerplexityParams(n_ctx=64, n_chunks=3)
    assert made.step("kld/Q8_0").params == KldParams(n_ctx=64, n_chunks=3)
    assert made.step("kld/reference").inputs == {
        "model": REFERENCE,
        "logits": OutputRef(step="reference", output="logits"),
    }


def test_a_recipe_reaches_its_stage_without_the_name() -> None:
    rules = {"ssm_out": "q8_0", "attn": "q6_K"}
    recipe = {"name": "selective", "ftype": "Q4_K_M", "tensor_types": rules}

    made = plan(variants=[recipe])

    assert made.step("quantize/selective").params == QuantizeParams(
        ftype="Q4_K_M", tensor_types=rules
    )


def test_the_projector_is_a_conversion_of_its_own() -> None:
    made = plan(convert={"mmproj": True, "pre_tokenizer": "qwen35", "mtp": "drop"})

    assert made.step("convert").params == ConvertParams(
        mtp="drop", pre_tokenizer="qwen35", model_name="demo"
    )
    assert made.step("mmproj").params == ConvertParams(mmproj=True, model_name="demo")
    assert "mmproj" not in keys(plan())


def test_a_model_is_looked_at_before_it_is_worked_on() -> None:
    made = plan()

    assert made.step("weights").after == ("inspect",)
    assert made.step("convert").after == ("inspect",)
    assert made.step("convert").inputs["weights"] == OutputRef(step="weights", output="report")


def test_every_step_gives_its_stage_the_inputs_it_takes() -> None:
    for step in plan(ON_THE_HUB, **HUB).steps:
        stage = step.stage
        assert stage.inputs <= set(step.inputs) <= stage.inputs | stage.optional_inputs, step.key
        assert isinstance(step.params, stage.params), step.key


def test_every_reference_is_to_an_output_that_there_is() -> None:
    made = plan(ON_THE_HUB, **HUB)

    for step in made.steps:
        for value in step.inputs.values():
            if isinstance(value, OutputRef):
                assert value.output in made.step(value.step).stage.outputs, step.key


def test_the_placement_is_that_of_the_configuration() -> None:
    made = plan(placement={"n_threads": 3})

    assert {step.placement.n_threads for step in made.steps} == {3}


def test_the_order_is_one_in_which_the_steps_can_run() -> None:
    steps = plan(ON_THE_HUB, **HUB).steps

    assert ordered(steps) == steps


def test_texts_that_turn_out_to_be_one_are_refused() -> None:
    sources = replace(CALIBRATED, calibration=(replace(leaf("wiki.test.raw"), label="copy.txt"),))

    with pytest.raises(ConfigError, match="the calibration text is the evaluation text") as caught:
        plan(sources, calibration=CALIBRATION)

    assert caught.value.evidence[:2] == (
        "calibration: copy.txt",
        "evaluation:  wiki.test.raw",
    )


def test_a_source_that_was_not_resolved_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="no calibration text was resolved"):
        plan(HERE, calibration=CALIBRATION)
    with pytest.raises(ValueError, match="no imatrix was resolved"):
        plan(HERE, imatrix={"path": "a.gguf"})


def test_a_configuration_made_in_python_is_checked_as_well() -> None:
    with pytest.raises(ValueError, match="a second variant named Q8_0"):
        config(variants=[{"ftype": "Q8_0"}, {"ftype": "Q8_0"}])
