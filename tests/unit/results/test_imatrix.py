"""The imatrix section of results.json: statistics, sensitivities, and what is missing."""

from __future__ import annotations

from typing import Any

import pytest

from llamacpp_pipeline.datasets.imatrix_statistics import statistics
from llamacpp_pipeline.datasets.imatrix_use import h_diag
from llamacpp_pipeline.errors import MixedConditionsError
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.commands import commands_run
from llamacpp_pipeline.results.conditions import measured_under
from llamacpp_pipeline.results.document import document_from_json, document_json
from llamacpp_pipeline.results.files import published_files
from llamacpp_pipeline.results.imatrix import ImatrixFacts, imatrix_facts, listed
from llamacpp_pipeline.results.run import RunRecords
from llamacpp_pipeline.stages.imatrix_facts import facts_of
from tests.unit.results.sample import (
    CORPUS,
    CREATED,
    NOBODY,
    digest,
    imatrix_of,
    sample_run,
    statistics_of,
    with_result,
)

SEVERAL: dict[str, Any] = {
    "calibration": {
        "n_ctx": 256,
        "texts": [{"path": "wiki.txt"}, {"path": "code.txt", "name": "code", "weight": 3}],
    }
}
GIVEN: dict[str, Any] = {"calibration": None, "imatrix": {"path": "their.gguf"}}


def facts(run: RunRecords) -> ImatrixFacts:
    found = imatrix_facts(run)
    assert found is not None
    return found


def test_sensitivity_is_the_mean_square_raw_and_over_the_largest() -> None:
    found = facts(sample_run())

    expected = {row.name: row for row in h_diag(imatrix_of())}
    assert {one.name for one in found.tensor_h_diag} == expected.keys()
    for one in found.tensor_h_diag:
        assert one.h_diag == pytest.approx(expected[one.name].raw, rel=1e-12)
        assert one.normalised == pytest.approx(expected[one.name].normalised, rel=1e-12)
        assert one.layer == expected[one.name].layer
    assert max(one.normalised for one in found.tensor_h_diag) == 1


def test_layers_have_their_own_largest() -> None:
    found = facts(sample_run())

    assert [one.layer for one in found.layer_h_diag] == [0, 1]
    assert max(one.normalised for one in found.layer_h_diag) == 1
    both = [t.h_diag for t in found.tensor_h_diag if t.layer == 0]
    assert found.layer_h_diag[0].h_diag == pytest.approx(sum(both) / 2)


def test_all_statistics_are_kept_and_survive_json() -> None:
    document = results_document(sample_run(), created=CREATED, redactor=NOBODY)

    assert document.imatrix is not None
    assert document.imatrix.tensors == facts_of(statistics(imatrix_of())).tensors
    assert document_from_json(document_json(document)) == document


def test_a_complete_file_needs_no_note() -> None:
    found = facts(sample_run())

    assert (found.source, found.without_means, found.notes) == ("computed", 0, ())


def test_a_run_without_imatrix_has_no_section() -> None:
    config: dict[str, Any] = {
        "calibration": None,
        "variants": [{"ftype": "Q8_0", "imatrix": False}],
        "card": {},
    }

    assert imatrix_facts(sample_run(config=config, without=("imatrix",))) is None


def test_what_a_given_file_does_not_know_is_said_once() -> None:
    found = facts(sample_run(config=GIVEN))

    assert (found.source, found.without_means) == ("given", 4)
    assert found.lacking == ("output.weight", "token_embd.weight")
    means, coverage, lacking, ignored = found.notes
    assert means.startswith("4 of 4 tensors have no signed means")
    assert coverage.startswith("4 expert tensors have experts that saw fewer than 128 tokens")
    assert "calibrate on more text" in coverage
    assert lacking.endswith("without it: output.weight, token_embd.weight")
    assert "blk.2.nextn.eh_proj.weight" in ignored


def test_tensors_without_rows_have_no_sensitivity() -> None:
    run = with_result(sample_run(), "imatrix", statistics=statistics_of(imatrix_of(counts=(0, 0))))

    found = facts(run)

    assert found.tensor_h_diag == ()
    assert len(found.tensors) == 4


def test_long_lists_of_names_are_cut() -> None:
    assert listed(("a", "b")) == "a, b"
    assert listed(("a", "b", "c", "d", "e", "f")) == "a, b, c, d and 2 more"


def test_conditions_name_every_text_with_its_weight() -> None:
    calibration = measured_under(sample_run(config=SEVERAL)).calibration

    assert calibration is not None
    assert calibration.text is None
    assert [
        (p.name, p.text.label, p.text.sha256, p.n_chunks, p.weight) for p in calibration.parts
    ] == [
        ("wiki.txt", "wiki.txt", digest("wiki.txt"), 20, 1),
        ("code", "code.txt", digest("code.txt"), 20, 3),
    ]
    assert (calibration.n_chunks, calibration.n_ctx) == (40, 256)


def test_one_of_several_texts_that_is_measured_on_is_refused() -> None:
    texts = [{"path": "wiki.txt"}, {"path": CORPUS}]
    several = {**SEVERAL, "calibration": {"texts": texts}}
    run = sample_run(config={**several, "evaluation": {"corpus": {"path": "a.txt"}, "n_ctx": 256}})

    with pytest.raises(MixedConditionsError, match=f"calibration text {CORPUS}"):
        measured_under(run)


def test_the_merge_stands_among_the_commands_and_only_its_result_is_published() -> None:
    run = sample_run(config=SEVERAL)

    commands = {command.step: command.argv for command in commands_run(run)}
    assert commands["imatrix/code"][-1] == "Tiny-imatrix-code.gguf"
    assert commands["imatrix"][:2] == ("python", "-m")
    assert commands["imatrix"][-1] == "Tiny-imatrix.gguf"
    assert "Tiny-imatrix-code.gguf" in commands["imatrix"]
    assert [f.name for f in published_files(run) if f.kind == "imatrix"] == ["Tiny-imatrix.gguf"]
