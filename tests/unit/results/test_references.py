"""Other publishers' files in results and card: measured alike, told apart, never published."""

from __future__ import annotations

from llamacpp_pipeline.report.card import render_card
from llamacpp_pipeline.report.terminal import render_text
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.files import published_files
from llamacpp_pipeline.results.references import reference_rows
from tests.unit.results.sample import NOBODY, digest, sample_run

THEIRS = {"references": [{"name": "theirs", "path": "their-Q4_K_M.gguf"}]}
COMPARED = {"card": {"compare": [{"variant": "Q4_K_M", "against": "theirs"}]}}


def document(**config: object) -> ResultsDocument:
    return results_document(sample_run(config={**THEIRS, **config}), redactor=NOBODY)


def test_a_reference_has_the_figures_of_a_variant() -> None:
    (row,) = document().references

    assert (row.label, row.kind, row.file) == ("theirs", "other", "their-Q4_K_M.gguf")
    assert row.sha256 == digest("their-Q4_K_M.gguf")
    assert row.quality is not None
    assert row.size.types == {"q4_K": 10}
    assert [speed.test for speed in row.speed] == ["pp512", "tg128"]
    assert row.origin is not None
    assert (row.origin.quantized_by, row.origin.repo) == ("Them", None)
    assert row.origin.notes == ("lacks a draft layer",)


def test_a_reference_is_never_published() -> None:
    run = sample_run(config=THEIRS)

    assert not [file for file in published_files(run) if "their" in file.name]
    assert not document().references[0].published


def test_a_reference_that_was_refused_has_no_row() -> None:
    run = sample_run(config=THEIRS, without=("reference-file/theirs", "kld/theirs", "bench/theirs"))

    assert reference_rows(run) == ()


def test_the_tables_tell_it_from_our_own_files() -> None:
    found = document(**COMPARED)

    card, text = render_card(found), render_text(found)

    assert r"| their-Q4_K_M (theirs) |" in card
    assert "theirs: another publisher's file their-Q4_K_M.gguf" in text
    assert "| KLD metric | theirs | this |" in card
