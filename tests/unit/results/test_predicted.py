"""What single divergences add up to, how well the fit predicts, and what measuring took."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from llamacpp_pipeline.report.measured import price_text
from llamacpp_pipeline.report.refinements import refinement_lines, refinement_table
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.curve_fit import log_error
from llamacpp_pipeline.results.document import (
    ResultsDocument,
    document_from_json,
    document_json,
)
from llamacpp_pipeline.results.predicted import Prediction
from llamacpp_pipeline.results.run import RunRecords
from llamacpp_pipeline.results.sensitivity import SensitivityFacts
from llamacpp_pipeline.results.table import variant_rows
from llamacpp_pipeline.stages.refine_record import Mix, RefineResult
from llamacpp_pipeline.units import Estimate
from tests.unit.results.measured import (
    ALPHA,
    BENT,
    CHOSEN,
    NOISE,
    RHO,
    STANDARD,
    divergence,
    measured_run,
)
from tests.unit.results.sample import MACHINE, NOBODY, changed


def facts(run: RunRecords) -> SensitivityFacts:
    found = results_document(run, redactor=NOBODY).sensitivity
    assert found is not None
    return found


def predicted(run: RunRecords) -> dict[str, Prediction]:
    return {one.label: one for one in facts(run).predictions}


def test_the_prediction_is_the_sum_of_single_divergences_beside_what_was_measured() -> None:
    found = predicted(measured_run())

    sums = {
        "Q4_K_M": sum(divergence(name, kind) for name, kind in STANDARD.items()),
        "matched": sum(divergence(name, kind) for name, kind in CHOSEN.items()),
    }
    assert {label: one.predicted for label, one in found.items()} == pytest.approx(sums)
    assert found["Q4_K_M"].measured is not None
    assert found["Q4_K_M"].measured.value == 0.036272
    assert found["Q4_K_M"].ratio == pytest.approx(sums["Q4_K_M"] / 0.036272)


def test_a_type_beyond_the_curve_is_predicted_from_the_plans_own_relative_error() -> None:
    beyond = {**CHOSEN, "blk.0.attn_q.weight": "iq2_xxs"}

    found = predicted(measured_run(chosen=beyond))["matched"]

    known = sum(divergence(n, k) for n, k in CHOSEN.items() if n != "blk.0.attn_q.weight")
    assert found.predicted == pytest.approx(known + 0.02 * (0.1 + NOISE))


def test_a_standard_mix_with_a_type_beyond_the_curve_has_no_prediction_and_says_which() -> None:
    found = predicted(measured_run(standard={**STANDARD, "blk.0.attn_q.weight": "iq4_nl"}))

    assert (found["Q4_K_M"].predicted, found["Q4_K_M"].ratio) == (None, None)
    assert found["Q4_K_M"].without_curve == {"iq4_nl": 1}


def test_a_tensor_that_was_not_measured_leaves_its_file_without_a_prediction() -> None:
    found = predicted(measured_run(standard={**STANDARD, "blk.9.attn_q.weight": "q4_K"}))

    assert found["Q4_K_M"].without_curve == {"q4_K": 1}


def test_an_unquantized_tensor_costs_nothing() -> None:
    found = predicted(measured_run(standard=dict.fromkeys([*ALPHA, "blk.9.x.weight"], "f16")))

    assert (found["Q4_K_M"].predicted, found["Q4_K_M"].ratio) == (0.0, None)


def test_a_record_that_does_not_tell_the_types_has_no_prediction() -> None:
    found = predicted(measured_run(standard={}))

    assert (found["Q4_K_M"].predicted, found["Q4_K_M"].without_curve) == (None, {})


def test_the_fit_without_a_type_predicts_it() -> None:
    fit = facts(measured_run()).fit
    assert fit is not None

    by_type = {(p.tensor, p.type): p for p in fit.points}
    point = by_type["blk.0.attn_q.weight", "q5_K"]
    assert point.others == pytest.approx(divergence("blk.0.attn_q.weight", "q5_K"))
    assert point.measured.value == pytest.approx(BENT * divergence("blk.0.attn_q.weight", "q5_K"))
    assert point.line == pytest.approx(0.02 * (RHO["q5_K"] + NOISE))
    assert fit.others is not None
    assert fit.others.n == 8
    assert fit.others.median == pytest.approx(math.log(BENT))
    assert fit.others.rms == pytest.approx(math.log(BENT))
    assert fit.by_type["iq3_s"].n == 4
    assert fit.line is not None
    assert fit.line.rms == pytest.approx(math.log(BENT) / math.sqrt(2))
    assert fit.n_unclear == 0


def test_what_is_not_told_from_zero_is_not_compared() -> None:
    run = measured_run()
    result = run.records["sensitivity"].result
    unclear = {"type": "q5_K", "rho": 0.001, "divergence": {"value": 1e-6, "stderr": 1e-6}}
    first = {**result["tensors"][0]}
    first["measured"] = [first["measured"][0], unclear]
    tensors = [first, *result["tensors"][1:]]

    fit = facts(changed(run, "sensitivity", result={**result, "tensors": tensors})).fit

    assert fit is not None
    assert fit.n_unclear == 1
    assert len(fit.points) == 7


def test_one_type_alone_predicts_no_other() -> None:
    run = measured_run()
    result = run.records["sensitivity"].result
    tensors = [{**one, "measured": one["measured"][:1]} for one in result["tensors"]]

    fit = facts(changed(run, "sensitivity", result={**result, "tensors": tensors})).fit

    assert fit is not None
    assert fit.others is None
    assert fit.by_type == {}


def test_the_error_of_logarithms() -> None:
    found = log_error([(2.0, 1.0), (1.0, 2.0), (1.0, 1.0), (0.0, 1.0)])
    assert found is not None
    assert found.n == 3
    assert found.median == pytest.approx(math.log(2))
    assert found.rms == pytest.approx(math.log(2) * math.sqrt(2 / 3))
    assert log_error([(0.0, 1.0)]) is None


def test_the_price_counts_what_an_interrupted_probe_had_measured_before() -> None:
    price = facts(measured_run()).price
    assert price is not None
    assert (price.seconds, price.probe_seconds, price.curves_seconds) == (66.5, 60.0, 6.0)
    assert price.n_tokens == 10 * 16 * 256
    assert (price.cpu, price.n_threads) == ("Some CPU, 2 cores", 2)
    assert price.evaluation is not None
    assert (price.evaluation.n_files, price.evaluation.seconds) == (2, 3.0)


MIX = Mix(
    name="prior",
    bpw=4.5,
    n_changed=0,
    predicted=0.01,
    on_probe=Estimate(value=0.01, stderr=0.001),
    kld=Estimate(value=0.02, stderr=0.002),
    kld_p999=0.5,
    same_top=90.0,
)
APART = Estimate(value=0.001, stderr=0.0004)
REFINED = RefineResult(
    kept="prior",
    stopped="nothing-close",
    mixes=(MIX, MIX.model_copy(update={"name": "measured", "n_changed": 3, "to_kept": APART})),
    rounds=(),
    held_out=True,
    n_ctx=64,
    n_chunks=8,
    n_measurements=8,
    seconds=12.0,
)


def test_what_was_tried_for_a_file_stands_with_its_allocation() -> None:
    run = measured_run()
    said = {"stage": "refine", "result": REFINED.model_dump(mode="json")}
    record = run.needed("convert").model_copy(update=said)
    run = replace(run, records={**run.records, "refine/matched": record})
    row = next(row for row in variant_rows(run) if row.label == "matched")
    assert row.allocation is not None
    tried = row.allocation.refinement
    assert tried is not None
    assert (tried.kept, tried.validation_digest) == ("prior", None)
    assert [mix.name for mix in tried.mixes] == ["prior", "measured"]
    document = cast("ResultsDocument", SimpleNamespace(variants=[row]))
    assert "| **prior** | 0 |" in refinement_table(document)
    assert "+0.001000 ± 0.000400" in refinement_table(document)
    (line,) = refinement_lines(document)
    assert "no decision was close" in line


def test_validating_the_files_is_part_of_the_price() -> None:
    run = measured_run()
    said = {"stage": "refine", "seconds": 30.0, "result": REFINED.model_dump(mode="json")}
    refined = run.needed("convert").model_copy(update=said)
    run = replace(run, records={**run.records, "refine/matched": refined})
    price = facts(run).price
    assert price is not None
    assert (price.seconds, price.refine_seconds) == (96.5, 30.0)
    assert "0.5 minutes of validating the types of the files" in price_text(price)


def test_seconds_of_another_machine_are_not_compared() -> None:
    other = MACHINE.model_copy(update={"n_cores": 64})
    price = facts(changed(measured_run(), "kld/matched", machine=other)).price
    assert price is not None
    assert price.evaluation is None


def test_measurements_that_may_end_early_bound_the_tokens() -> None:
    run = measured_run()
    params = {**run.records["probe"].params, "precision": 0.1}
    price = facts(changed(run, "probe", params=params)).price
    assert price is not None
    assert price.at_most


def test_it_is_all_read_back_and_results_of_before_are_still_read() -> None:
    document = results_document(measured_run(), redactor=NOBODY)
    assert document_from_json(document_json(document)) == document
    before = document.model_dump(mode="json")
    for name in ("price", "fit", "predictions", "bands"):
        del before["sensitivity"][name]
    for row in (before["reference"], *before["variants"]):
        del row["tensors"]
    assert type(document).model_validate(before).variants[0].tensors == {}
