"""Rows from records: joined only where the conditions are one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llamacpp_pipeline.errors import MixedConditionsError, PipelineError
from llamacpp_pipeline.plan.step import Leaf, Plan
from llamacpp_pipeline.results.conditions import measured_under, speed_under
from llamacpp_pipeline.results.files import published_files
from llamacpp_pipeline.results.record import RecordedInput
from llamacpp_pipeline.results.run import RunRecords
from llamacpp_pipeline.results.table import variant_rows
from llamacpp_pipeline.units import Estimate
from tests.unit.results.sample import (
    BUILD,
    SELECTIVE,
    changed,
    digest,
    kld_result,
    sample_run,
    with_result,
)

KLD = "kld/Q4_K_M"


def test_the_reference_comes_first_and_every_file_has_its_figures() -> None:
    reference, plain, selective = variant_rows(sample_run())

    assert (reference.label, reference.kind, reference.ppl) == (
        "F16",
        "reference",
        Estimate(12.5, 0.25),
    )
    assert reference.quality is None
    assert (plain.label, plain.file) == ("Q4_K_M", "Tiny-Q4_K_M.gguf")
    assert plain.size.bpw == 4.9
    assert plain.size.file_bpw == 5.0
    assert plain.quality is not None
    assert plain.quality.mean_kld == Estimate(0.036272, 0.000154)
    assert [row.test for row in plain.speed] == ["pp512", "tg128"]
    assert selective.recipe is not None
    assert selective.recipe.tensor_types == {SELECTIVE: "q8_0"}
    assert selective.recipe.overridden == {SELECTIVE: 3}
    assert selective.recipe.imatrix


def test_what_was_not_measured_is_absent_and_not_zero() -> None:
    run = sample_run(without=(KLD, "bench/Q4_K_M", "quantize/Q4_K_M-selective"))

    reference, plain = variant_rows(run)

    assert reference.speed
    assert (plain.ppl, plain.quality, plain.speed) == (None, None, ())


@pytest.mark.parametrize("key", ["convert", "reference"])
def test_without_the_reference_there_is_nothing_to_report(key: str) -> None:
    with pytest.raises(PipelineError, match=f"'{key}' has no record"):
        variant_rows(sample_run(without=(key,)))


@pytest.mark.parametrize(
    ("figures", "evidence"),
    [
        pytest.param({"n_ctx": 512}, "n_ctx: kld/Q4_K_M has 512, the reference 256", id="n_ctx"),
        pytest.param(
            {"n_chunks": 39}, "n_chunks: kld/Q4_K_M has 39, the reference 40", id="n_chunks"
        ),
    ],
)
def test_a_measurement_with_another_cut_is_refused(figures: dict[str, Any], evidence: str) -> None:
    run = with_result(sample_run(), KLD, **figures)

    with pytest.raises(MixedConditionsError, match="different conditions") as caught:
        variant_rows(run)

    assert caught.value.evidence == (evidence,)
    assert caught.value.hint


@pytest.mark.parametrize("key", [KLD, "bench/Q4_K_M"])
def test_a_measurement_by_another_build_is_refused(key: str) -> None:
    with pytest.raises(MixedConditionsError) as caught:
        variant_rows(changed(sample_run(), key, made_by_id="other"))

    assert caught.value.evidence == (f"BuildId: {key} has other, the reference {BUILD}",)


def test_a_measurement_against_another_reference_is_refused() -> None:
    other = RecordedInput(kind="step", label="reference:logits", digest=digest("elsewhere"))
    run = sample_run()
    inputs = {**run.records[KLD].inputs, "logits": other}

    with pytest.raises(MixedConditionsError, match=f"figures of {KLD}") as caught:
        variant_rows(changed(run, KLD, inputs=inputs))

    assert "'logits' was" in caught.value.evidence[0]


def test_a_reference_of_another_corpus_is_refused() -> None:
    other = RecordedInput(kind="leaf", label="other.txt", digest=digest("other"))
    run = sample_run()
    inputs = {**run.records["reference"].inputs, "corpus": other}

    with pytest.raises(MixedConditionsError, match="figures of reference") as caught:
        variant_rows(changed(run, "reference", inputs=inputs))

    assert "'corpus' was" in caught.value.evidence[0]


def test_a_variant_made_without_the_imatrix_of_the_plan_is_refused() -> None:
    run = sample_run()
    inputs = {"model": run.records["quantize/Q4_K_M"].inputs["model"]}

    with pytest.raises(MixedConditionsError, match="figures of quantize/Q4_K_M") as caught:
        variant_rows(changed(run, "quantize/Q4_K_M", inputs=inputs))

    assert "'imatrix' was nothing" in caught.value.evidence[0]


def test_calibration_on_the_evaluation_text_is_refused() -> None:
    run = _calibrated_on(sample_run(), digest("evaluation.txt"))

    with pytest.raises(MixedConditionsError, match="it is the evaluation text"):
        variant_rows(run)


@pytest.mark.parametrize(
    ("figures", "differing"),
    [
        pytest.param({"cpu": "Another CPU"}, "cpu", id="machine"),
        pytest.param({"n_threads": 8}, "n_threads", id="threads"),
    ],
)
def test_speeds_of_different_machines_are_refused(figures: dict[str, Any], differing: str) -> None:
    run = with_result(sample_run(), "bench/Q4_K_M", **figures)

    with pytest.raises(MixedConditionsError, match="speeds of bench/reference and") as caught:
        variant_rows(run)

    assert [line.partition(":")[0] for line in caught.value.evidence] == [differing]


def test_conditions_name_text_cut_and_calibration() -> None:
    under = measured_under(sample_run())

    assert (under.corpus.label, under.corpus.sha256) == (
        "evaluation.txt",
        digest("evaluation.txt"),
    )
    assert (under.n_ctx, under.n_chunks, under.build_id) == (256, 40, BUILD)
    assert under.calibration is not None
    assert under.calibration.text is not None
    assert under.calibration.text.label == "calibration.txt"
    assert under.calibration.n_chunks == 20
    assert under.calibration.given is None


def test_a_run_without_imatrix_or_bench_has_neither_condition() -> None:
    config = {"calibration": None, "variants": [{"ftype": "Q8_0", "imatrix": False}]}
    run = sample_run(
        config={**config, "card": {}}, without=("imatrix", "bench/reference", "bench/Q8_0")
    )

    assert measured_under(run).calibration is None
    assert speed_under(run) is None
    assert variant_rows(run)[1].speed == ()


def test_a_given_imatrix_is_named_by_its_content() -> None:
    run = _with_given_imatrix(sample_run(without=("imatrix",)))

    calibration = measured_under(run).calibration

    assert calibration is not None
    assert calibration.given is not None
    assert (calibration.given.label, calibration.imatrix_sha256) == ("their.gguf", digest("i"))
    assert calibration.text is None


def test_a_record_of_another_form_is_named() -> None:
    run = changed(sample_run(), KLD, result={"ppl": 3})

    with pytest.raises(PipelineError, match=f"record of {KLD}: its result") as caught:
        variant_rows(run)

    assert any("n_ctx" in line for line in caught.value.evidence)


def test_files_are_called_after_model_and_variant() -> None:
    run = sample_run(config={"output": {"reference": True}})

    names = {file.name: (file.step, file.output) for file in published_files(run)}

    assert names == {
        "Tiny-Q4_K_M.gguf": ("quantize/Q4_K_M", "gguf"),
        "Tiny-Q4_K_M-selective.gguf": ("quantize/Q4_K_M-selective", "gguf"),
        "Tiny-F16.gguf": ("convert", "gguf"),
        "Tiny-imatrix.gguf": ("imatrix", "imatrix"),
    }


def test_two_files_of_one_name_are_refused() -> None:
    config = {"output": {"reference": True}, "variants": [{"ftype": "Q8_0", "name": "F16"}]}

    with pytest.raises(PipelineError, match=r"two files would be called Tiny-F16\.gguf"):
        published_files(sample_run(config={**config, "card": {}}))


def test_negative_zero_of_the_noise_floor_is_accepted() -> None:
    floor = {**kld_result(0.0), "mean_kld": {"value": -0.0000004, "stderr": 0.0}}
    run = changed(sample_run(), "kld/reference", result=floor)

    assert len(variant_rows(run)) == 3


def _calibrated_on(run: RunRecords, sha256: str) -> RunRecords:
    step = run.plan.step("imatrix")
    leaf = step.inputs["corpus"]
    assert isinstance(leaf, Leaf)
    steps = tuple(
        replace(other, inputs={**other.inputs, "corpus": replace(leaf, digest=sha256)})
        if other.key == "imatrix"
        else other
        for other in run.plan.steps
    )
    recorded = run.records["imatrix"].inputs["corpus"].model_copy(update={"digest": sha256})
    run = changed(run, "imatrix", inputs={**run.records["imatrix"].inputs, "corpus": recorded})
    return replace(run, plan=Plan(steps=steps))


def _with_given_imatrix(run: RunRecords) -> RunRecords:
    leaf = Leaf(
        digest=digest("i"),
        path=run.plan.step("imatrix").inputs["corpus"].path,  # type: ignore[union-attr]
        label="/somewhere/else/their.gguf",
        size_bytes=10,
    )
    given = RecordedInput(kind="leaf", label=leaf.label, digest=leaf.digest, size_bytes=10)
    steps = []
    for step in run.plan.steps:
        if step.key == "imatrix":
            continue
        if "imatrix" in step.inputs:
            steps.append(replace(step, inputs={**step.inputs, "imatrix": leaf}))
            inputs = {**run.records[step.key].inputs, "imatrix": given}
            run = changed(run, step.key, inputs=inputs)
        else:
            steps.append(step)
    return replace(run, plan=Plan(steps=tuple(steps)))
