"""The card's findings on sensitivity."""

from __future__ import annotations

from llamacpp_pipeline.report.card import render_card
from llamacpp_pipeline.report.plots.data import sensitivity_profile
from llamacpp_pipeline.report.sensitivities import sensitive_table, source_text
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.document import ResultsDocument
from tests.unit.report.allocated import allocated
from tests.unit.results.sample import NOBODY, sample_run


def document() -> ResultsDocument:
    return results_document(sample_run(), redactor=NOBODY)


def test_the_most_and_the_least_sensitive_tensors_are_named() -> None:
    found = allocated(document())
    assert found.variants[0].allocation is not None
    alphas = {one.name: one.alpha or 0.0 for one in found.variants[0].allocation.tensors}
    ordered = sorted(alphas, key=lambda name: (-alphas[name], name))

    _, _, most, least = sensitive_table(found).splitlines()

    shown = [f"`{name}` ({alphas[name]:.5f})" for name in ordered]
    assert most == f"| Most sensitive | {', '.join(shown[:5])} |"
    assert least == f"| Least | {', '.join(shown[-5:])} |"


def test_where_the_sensitivities_come_from_is_said() -> None:
    assert source_text(allocated(document())) == "estimated from weights and imatrix"
    assert "with it (estimated from weights and imatrix)." in render_card(allocated(document()))


def test_without_a_file_by_size_there_is_no_section() -> None:
    assert sensitive_table(document()) == ""
    assert sensitivity_profile(document()) is None
    assert "## Sensitivity" not in render_card(document())
