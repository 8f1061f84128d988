"""Every number on the card is found in results.json."""

from __future__ import annotations

import pytest

from llamacpp_pipeline.report.card import render_card
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.document import ResultsDocument, document_json
from tests.unit.report.allocated import allocated
from tests.unit.report.numbers import unexplained_numbers
from tests.unit.report.published import CARDS, quality_document
from tests.unit.report.scored import scored_sample
from tests.unit.results.sample import NOBODY, sample_run

SAMPLE = results_document(sample_run(), redactor=NOBODY)
DOCUMENTS = [
    SAMPLE,
    allocated(SAMPLE),
    scored_sample(),
    *(quality_document(card) for card in CARDS),
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=["sample", "allocated", "scored", *CARDS])
def test_every_number_on_the_card_is_in_the_results(document: ResultsDocument) -> None:
    assert unexplained_numbers(render_card(document), document_json(document)) == []


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        pytest.param("0.036272 ±0.000154", "0.036273 ±0.000154", id="last-digit"),
        pytest.param("99.51%", "99.52%", id="percent"),
        pytest.param("12.600000", "12.600001", id="ppl"),
        pytest.param("| 2000.00 ±1.25", "| 2001.00 ±1.25", id="speed"),
        pytest.param("40 chunks", "4017 chunks", id="count"),
    ],
)
def test_a_number_from_elsewhere_would_be_noticed(there: str, instead: str) -> None:
    card = render_card(SAMPLE)
    assert there in card

    changed = card.replace(there, instead, 1)

    assert len(unexplained_numbers(changed, document_json(SAMPLE))) == 1
