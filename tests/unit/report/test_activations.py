"""The card's section on activations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llamacpp_pipeline.datasets.imatrix_statistics import statistics
from llamacpp_pipeline.report.activations import layer_table
from llamacpp_pipeline.report.card import render_card
from llamacpp_pipeline.report.plots.gallery import shown
from llamacpp_pipeline.report.terminal import render_text
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.imatrix import ImatrixFacts
from llamacpp_pipeline.results.run import RunRecords
from llamacpp_pipeline.stages.imatrix_facts import facts_of
from tests.unit.results.sample import NOBODY, imatrix_of, sample_run, statistics_of, with_result
from tests.unit.results.test_imatrix import GIVEN, SEVERAL

PICTURE = '<img alt="Energy of the activations'


def document_of(run: RunRecords) -> ResultsDocument:
    return results_document(run, redactor=NOBODY)


def facts_of_run(run: RunRecords) -> ImatrixFacts:
    found = document_of(run).imatrix
    assert found is not None
    return found


def row(table: str, start: str) -> str:
    return next(line for line in table.splitlines() if line.startswith(f"| {start}"))


def test_the_layers_that_stand_out_are_named_with_their_figures() -> None:
    table = layer_table(facts_of_run(sample_run()))

    found = facts_of(statistics(imatrix_of()))
    kurtosis = [one.mean_squares.excess_kurtosis for one in found.layers if one.mean_squares]
    assert None not in kurtosis
    most = max(range(2), key=lambda layer: kurtosis[layer] or 0.0)
    assert f"{most} ({kurtosis[most]:.2f})" in row(table, "Most heavy-tailed")
    assert "| 0 (1.00), 1 (0.65) |" in row(table, "Most energetic")
    change = found.layers[1].to_previous
    assert change is not None
    assert change.means is not None
    assert f"1 ({change.means.cosine_similarity:.2f})" in row(table, "Least changed")
    assert "similarity of E\\[x\\] to" in table


def test_without_means_the_change_is_that_of_the_mean_squares() -> None:
    bare = with_result(sample_run(), "imatrix", statistics=statistics_of(imatrix_of(means=False)))

    assert "similarity of E\\[x²\\] to" in row(layer_table(facts_of_run(bare)), "Least changed")


def test_without_rows_there_is_no_table() -> None:
    empty = with_result(
        sample_run(), "imatrix", statistics=statistics_of(imatrix_of(counts=(0, 0)))
    )

    assert layer_table(facts_of_run(empty)) == ""


def test_the_picture_is_shown_where_one_was_drawn(tmp_path: Path) -> None:
    document = document_of(sample_run())

    for name in ("activations.svg", "activations.png", "activations-dark.svg"):
        (tmp_path / "plots").mkdir(exist_ok=True)
        (tmp_path / "plots" / name).touch()
    assert PICTURE not in render_card(
        document, pictures=shown(document, tmp_path)
    )  # one is missing
    (tmp_path / "plots" / "activations-dark.png").touch()

    assert PICTURE in render_card(document, pictures=shown(document, tmp_path))
    assert PICTURE not in render_card(document)


def test_what_is_missing_is_on_the_card_and_on_the_terminal() -> None:
    document = document_of(sample_run(config=GIVEN))

    card, text = render_card(document), render_text(document)
    assert card.count("have no signed means") == 1
    assert text.count("have no signed means") == 1


def test_several_texts_are_listed_with_their_weight() -> None:
    card = render_card(document_of(sample_run(config=SEVERAL)))

    assert "computed from 2 texts, at 256 tokens a chunk" in card
    lines = [line for line in card.splitlines() if line.startswith("   - ")]
    assert len(lines) == 2
    assert lines[0].endswith(": 20 chunks")
    assert lines[1].endswith(": 20 chunks, each token counted 3 times")
    after = card.splitlines()[card.splitlines().index(lines[1]) + 1]
    assert after == "3. Each variant was quantized from the reference and measured against it."


def test_a_card_without_an_imatrix_says_nothing_of_activations() -> None:
    config: dict[str, Any] = {
        "calibration": None,
        "variants": [{"ftype": "Q8_0", "imatrix": False}],
        "card": {},
    }
    run = sample_run(config=config, without=("imatrix",))

    assert "Activations" not in render_card(document_of(run))
