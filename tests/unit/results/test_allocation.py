"""Files by size in the results and on the card; the memory that files need."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from llamacpp_pipeline.report.allocation import asked, measured, target_table
from llamacpp_pipeline.report.card import render_card
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.run import RunRecords
from llamacpp_pipeline.results.table import variant_rows
from tests.unit.report.test_explain import refinement_of
from tests.unit.results.sample import NOBODY, sample_run, with_result

BY_SIZE: dict[str, Any] = {"variants": [{"ftype": "Q4_K_M"}, {"bpw": 4.5}], "card": {}}
PROBED = {"sensitivity": {"corpus": {"demo": "probe"}}}
MEMORY = {"n_ctx": 4096, "kv_type": "f16", "context_bytes": 300, "compute_bytes": 200}


def run_with(asked_for: dict[str, Any], variant: dict[str, Any], **more: object) -> RunRecords:
    run = sample_run(config={**BY_SIZE, **more, "variants": [{"ftype": "Q4_K_M"}, variant]})
    return with_result(run, f"quantize/{run.config.variants[1].label}", asked=asked_for)


def document_of(run: RunRecords) -> ResultsDocument:
    return results_document(run, redactor=NOBODY)


def test_asked_reached_and_predicted_are_in_the_row() -> None:
    row = document_of(sample_run(config=BY_SIZE)).row("4.5bpw")

    assert row is not None
    found = row.allocation
    assert found is not None
    assert (found.way, found.asked_bpw, found.reached_bpw) == ("bpw", 4.5, row.size.bpw)
    assert (found.objective, found.gap, found.optimal) == (0.0125, 0.008, True)
    assert (found.measured, found.reused, found.alpha_sources) == (20, 60, ("prior",))
    assert row.recipe is not None
    assert row.recipe.ftype == "Q4_K_M"


def test_every_tensor_has_its_place_and_its_bits() -> None:
    row = document_of(sample_run(config=BY_SIZE)).variants[1]

    assert row.allocation is not None
    embedding, down = row.allocation.tensors
    assert (embedding.layer, embedding.role, embedding.status) == (None, "token_embd", "pinned")
    assert (down.layer, down.role, down.type, down.bpw) == (3, "ffn_down", "q4_K", 4.5)
    assert (down.alpha, down.error) == (0.02, 0.01)


def test_a_file_by_its_file_type_has_no_allocation() -> None:
    assert document_of(sample_run()).variants[0].allocation is None
    assert target_table(document_of(sample_run())) == ""


def test_a_match_names_what_it_was_matched_to() -> None:
    run = run_with({"kind": "match", "bpw": 5.0289}, {"match": "Q4_K_M"})
    found = document_of(run).variants[1].allocation

    assert found is not None
    assert asked(found) == "5.0289 bpw, as Q4_K_M"


def test_a_memory_budget_says_how_it_was_made_up() -> None:
    fit = {"memory_bytes": 24 * 2**30, "context_bytes": 2**30, "compute_bytes": 2**29}
    run = run_with(
        {"kind": "fit", "size_bytes": 45 * 2**29, "fit": fit},
        {"fit": {"memory": "24GiB", "context": 32768, "kv_type": "q8_0"}},
    )

    card = render_card(document_of(run))

    assert "24.0 GiB of memory with 32768 tokens of context (q8" in card
    assert "1.0 GiB are for the context" in card
    assert "512.0 MiB for buffers, by llama.cpp's own estimate; 22.5 GiB were left" in card


def test_a_quality_says_what_it_takes_and_what_was_measured() -> None:
    budget = {
        "kld": 0.01, "predicted": 0.00999, "tensor_bytes": 9000, "least_bytes": 8990,
        "n_assumed": 0,
    }  # fmt: skip
    run = run_with({"kind": "kld", "bpw": 4.5, "kld": budget}, {"kld": 0.01}, **PROBED)

    document = document_of(run)
    row = document.variants[1]
    found = row.allocation

    assert found is not None
    assert found.kld is not None
    assert row.quality is not None
    assert (found.way, found.kld.asked, found.kld.least_bytes) == ("kld", 0.01, 8990)
    assert asked(found) == "mean KLD 0.01"
    card = render_card(document)
    assert "| kld0.01 | mean KLD 0.01 |" in card
    assert "a mean KLD of 0.01 was asked for on the probe text, where" in card
    assert "4.5000 bpw are predicted to reach 0.009990; " in card
    elsewhere = f"{row.quality.mean_kld.value:.6f} on the evaluation text"
    assert f"; measured: {elsewhere}" in card
    assert measured(row, found) == f"measured: {elsewhere}"
    tried = found.model_copy(update={"refinement": refinement_of("prior")})
    assert measured(row, tried) == f"measured: 0.010000 on it, {elsewhere}"
    assert measured(row.model_copy(update={"quality": None}), found) == "not measured"
    assert "was asked for on the probe text" not in render_card(
        document_of(sample_run(config=BY_SIZE))
    )


def test_the_card_shows_targets() -> None:
    card = render_card(document_of(sample_run(config=BY_SIZE)))

    assert "## How the bits were given out" in card
    assert "| 4.5bpw | 4.5000 bpw |" in card
    assert "0.012500 | 0.0080 (optimal) | weights and imatrix |" in card
    assert "How the bits were given out" not in render_card(document_of(sample_run()))


def test_every_file_says_what_memory_it_needs_at_each_context() -> None:
    run = sample_run(config={"memory": {"contexts": [4096]}})
    device = {"name": "Host", "weights_bytes": 1, "context_bytes": 2, "compute_bytes": 3}
    record = run.records["bench/reference"].model_copy(
        update={"stage": "memory", "result": {**MEMORY, "devices": [device]}}
    )
    run = replace(run, records={**run.records, "memory/4096-f16": record})

    rows = variant_rows(run)

    assert [need.total_bytes for row in rows for need in row.memory] == [
        row.size.tensor_bytes + 500 for row in rows
    ]
    assert variant_rows(sample_run())[0].memory == ()
