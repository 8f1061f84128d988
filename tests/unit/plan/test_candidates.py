"""Candidates in a plan: what is made of each, and what is measured only of the one kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from llamacpp_pipeline.plan.candidates import candidates_of, final_file
from llamacpp_pipeline.plan.fingerprint import documents
from llamacpp_pipeline.plan.sources import Sources
from llamacpp_pipeline.plan.step import RECORD, OutputRef
from llamacpp_pipeline.stages.quantize import QuantizeParams
from llamacpp_pipeline.stages.select import SelectParams
from tests.unit.plan.world import CALIBRATED, CALIBRATION, config, identity, leaf, plan

CHOICE = {
    "ftype": "Q4_K_M",
    "name": "Q4",
    "tensor_types": {"ffn_down": "q6_K"},
    "candidates": ["Q4_K_M", {"name": "plain", "imatrix": False}],
}


def test_each_candidate_is_made_and_measured_and_one_is_kept() -> None:
    found = plan(CALIBRATED, calibration=CALIBRATION, variants=[CHOICE])

    keys = [step.key for step in found.steps]
    assert keys[-8:] == [
        *("quantize/Q4~base", "kld/Q4~base", "quantize/Q4~Q4_K_M", "kld/Q4~Q4_K_M"),
        *("quantize/Q4~plain", "kld/Q4~plain", "select/Q4", "bench/Q4"),
    ]
    chosen = found.step("select/Q4")
    assert chosen.params == SelectParams(names=("base", "Q4_K_M", "plain"))
    assert chosen.inputs["gguf2"] == OutputRef(step="quantize/Q4~Q4_K_M", output="gguf")
    assert chosen.inputs["size2"] == OutputRef(step="quantize/Q4~Q4_K_M", output=RECORD)
    assert chosen.inputs["quality3"] == OutputRef(step="kld/Q4~plain", output=RECORD)
    assert found.step("bench/Q4").inputs["model"] == OutputRef(step="select/Q4", output="gguf")


def test_a_candidate_with_a_file_type_begins_anew_and_others_change_the_recipe() -> None:
    found = plan(CALIBRATED, calibration=CALIBRATION, variants=[CHOICE])

    base, standard, plain = (
        found.step(f"quantize/Q4~{name}") for name in ("base", "Q4_K_M", "plain")
    )
    assert isinstance(standard.params, QuantizeParams)
    assert standard.params.tensor_types == {}
    assert base.params == plain.params != standard.params
    assert "imatrix" in base.inputs
    assert "imatrix" in standard.inputs
    assert "imatrix" not in plain.inputs


def test_a_candidate_that_is_another_variant_is_made_once() -> None:
    found = plan(CALIBRATED, calibration=CALIBRATION, variants=[{"ftype": "Q4_K_M"}, CHOICE])
    bodies = documents(found, identity=identity, machine="here")

    assert bodies["quantize/Q4~Q4_K_M"] == bodies["quantize/Q4_K_M"]
    assert bodies["kld/Q4~Q4_K_M"] == bodies["kld/Q4_K_M"]


def test_a_candidate_may_use_the_imatrix_of_one_text_alone() -> None:
    sources = Sources(
        model=leaf("model"),
        evaluation=leaf("wiki.test.raw"),
        calibration=(leaf("code.txt"), leaf("prose.txt")),
    )
    texts = {"texts": [{"path": "code.txt"}, {"path": "prose.txt"}]}
    choice = {"ftype": "Q4_K_M", "candidates": [{"name": "code", "imatrix": "code.txt"}]}
    found = plan(sources, calibration=texts, variants=[choice])

    assert found.step("quantize/Q4_K_M~code").inputs["imatrix"] == OutputRef(
        step="imatrix/code.txt", output="imatrix"
    )


def test_without_candidates_nothing_changes() -> None:
    found = plan(variants=[{"ftype": "Q8_0"}])

    assert "quantize/Q8_0" in [step.key for step in found.steps]
    assert final_file(config(), "Q8_0") == OutputRef(step="quantize/Q8_0", output="gguf")
    assert candidates_of(config().variants[0]) == ()


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ([{"imatrix": False}], "give the candidate a `name`"),
        ([{"name": "base", "pure": True}], "`base` is the variant itself"),
        ([{"name": "same"}], "says nothing that differs"),
        (["Q4_K_M", "Q4_K_M"], "a second candidate named Q4_K_M: give it another `name`"),
        ([{"name": "code", "imatrix": "code"}], "code is none of several `calibration.texts`"),
        (["IQ2_XXS"], "IQ2_XXS needs an importance matrix and there is none"),
        (["Q4_K_N"], "Q4_K_N"),
        ([{"name": "a", "sensitivity": "measured"}], "nothing measures them"),
        ([{"name": "a", "type_set": "fast"}], "does not go with its variant"),
    ],
)
def test_what_cannot_be_a_candidate_is_refused(candidates: list[object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(variants=[{"ftype": "Q8_0", "candidates": candidates}])


def test_variants_by_size_take_the_default_candidates_unless_they_have_their_own() -> None:
    variants = [
        {"ftype": "Q4_K_M"},
        {"bpw": 4.5},
        {"bpw": 3.5, "candidates": [{"name": "plain", "imatrix": False}]},
    ]
    selection = {"candidates": ["Q4_K_S", {"name": "fast", "type_set": "fast"}]}
    found = plan(CALIBRATED, calibration=CALIBRATION, variants=variants, selection=selection)
    keys = [step.key for step in found.steps if step.key.startswith(("quantize/", "select/"))]

    assert keys == [
        "quantize/Q4_K_M",
        *("quantize/4.5bpw~base", "quantize/4.5bpw~Q4_K_S", "quantize/4.5bpw~fast"),
        "select/4.5bpw",
        *("quantize/3.5bpw~base", "quantize/3.5bpw~plain", "select/3.5bpw"),
    ]
    assert found.step("quantize/4.5bpw~Q4_K_S").stage.name == "quantize"
    assert found.step("quantize/4.5bpw~base").stage.name == "quantize-target"
    assert found.step("quantize/4.5bpw~fast").stage.name == "quantize-target"


def test_a_variant_matched_to_one_with_candidates_is_matched_to_the_one_kept() -> None:
    variants = [{**CHOICE}, {"match": "Q4"}]
    found = plan(CALIBRATED, calibration=CALIBRATION, variants=variants)

    assert found.step("quantize/Q4-matched").inputs["match"] == OutputRef(
        step="select/Q4", output="gguf"
    )


def test_where_tasks_settle_ties_every_candidate_is_scored_and_the_kept_one_not_again() -> None:
    said = {
        "calibration": CALIBRATION,
        "variants": [CHOICE],
        "tasks": {"sets": ["demo-passages", "demo-names"]},
    }
    files = {name: leaf(f"{name}.jsonl") for name in ("demo-passages", "demo-names")}
    sources = replace(CALIBRATED, datasets=files)
    without = [step.key for step in plan(sources, **said).steps]
    found = plan(sources, **said, selection={"tasks": True})
    keys = [step.key for step in found.steps]

    assert "tasks/Q4/demo-passages" in without
    assert "tasks/Q4/demo-passages" not in keys
    assert "tasks/Q4~plain/demo-names" in keys
    chosen = found.step("select/Q4")
    assert isinstance(chosen.params, SelectParams)
    assert chosen.params.n_sets == 2
    assert chosen.inputs["score3-2"] == OutputRef(step="tasks/Q4~plain/demo-names", output=RECORD)
