"""Task scores in the shape of published cards, with what is more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from llamacpp_pipeline.report.card import render_card
from llamacpp_pipeline.report.card_tables import row_name
from llamacpp_pipeline.report.task_tables import (
    average_table,
    better_first,
    cut_text,
    difference_table,
    interval_table,
    p_text,
    score_table,
    set_lines,
    verdict,
)
from llamacpp_pipeline.report.terminal import render_text
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.document import ResultsDocument, document_json
from llamacpp_pipeline.results.run import RunRecords
from llamacpp_pipeline.results.table import VariantRow
from llamacpp_pipeline.results.task_scores import TaskScore, average_of
from llamacpp_pipeline.units import Estimate
from tests.unit.report.numbers import unexplained_numbers
from tests.unit.report.published import CARDS, figures
from tests.unit.results.sample import N_TASKS, NOBODY, sample_run, with_result

SETS = ["demo-passages", "demo-names"]
TASKS: dict[str, Any] = {"tasks": {"sets": SETS, "n_tasks": N_TASKS}}


def document(run: RunRecords | None = None) -> ResultsDocument:
    return results_document(run or sample_run(config=TASKS), redactor=NOBODY)


def cells(text: str) -> list[list[str]]:
    lines = [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines()]
    return [lines[0], *lines[2:]]


def table_of(found: ResultsDocument) -> list[list[str]]:
    return cells(score_table(found, [row_name(row) for row in found.rows()]))


def without_differences() -> ResultsDocument:
    run = sample_run(config=TASKS)
    for name in SETS:
        same = run.records[f"tasks/reference/{name}"].result
        run = with_result(run, f"tasks/Q4_K_M/{name}", **same)
    return document(run)


def test_every_file_has_a_row_and_every_set_a_column() -> None:
    assert table_of(document()) == [
        ["Model", "Passages", "Names", "Avg Score"],
        ["Tiny-F16", "80.0000 ±6.4051", "80.0000 ±6.4051", "80.00 ±4.53"],
        ["Tiny-Q4_K_M", "52.5000 ±7.9964\\*", "52.5000 ±7.9964\\*", "52.50 ±5.65"],
        ["Tiny-Q4_K_M-selective", "77.5000 ±6.6867", "77.5000 ±6.6867", "77.50 ±4.73"],
    ]


@pytest.mark.parametrize("card", CARDS)
def test_the_table_of_a_published_card_comes_out_as_it_is(card: str) -> None:
    published = figures(card)
    titles, sample = published["task_columns"][:-1], document()
    assert sample.tasks is not None
    sets = tuple(sample.tasks.sets[0].model_copy(update={"name": t, "title": t}) for t in titles)
    facts = sample.tasks.model_copy(update={"sets": sets, "against_reference": ()})
    rows = tuple(_row(sample.variants[0], titles, line) for line in published["tasks"])
    reference = sample.reference.model_copy(update={"tasks": ()})

    found = sample.model_copy(update={"reference": reference, "variants": rows, "tasks": facts})
    assert table_of(found) == [["Model", *published["task_columns"]], *published["tasks"]]


def _row(row: VariantRow, titles: Sequence[str], printed: Sequence[str]) -> VariantRow:
    name, *cells = printed
    scores = tuple(_score(t, text) for t, text in zip(titles, cells[:-1], strict=True))
    known = {"label": name, "file": f"{name}.gguf", "tasks": scores}
    average = average_of(scores, len(titles))
    return row.model_copy(update={**known, "task_average": average})


def _score(title: str, printed: str) -> TaskScore:
    value, _, stderr = printed.partition(" ±")
    score = Estimate(value=float(value), stderr=float(stderr) if stderr else None)
    return TaskScore(set=title, n_tasks=1, n_correct=1, score=score, low=0, high=100, correct="8")


def test_a_difference_is_marked_only_where_there_is_one() -> None:
    assert verdict(document()) == "* differs from F16 by more than chance"
    assert verdict(without_differences()) == "no score differs from that of F16 by more than chance"
    assert not any("\\*" in cell for row in table_of(without_differences()) for cell in row)


def test_files_that_differ_from_one_another_are_listed_the_better_one_first() -> None:
    head, *rows = cells(difference_table(document()))

    assert head == ["Set", "Better", "Worse", "Difference", "95% interval", "p"]
    assert [row[:3] for row in rows] == [
        ["Passages", "Q4_K_M-selective", "Q4_K_M"],
        ["Names", "Q4_K_M-selective", "Q4_K_M"],
    ]
    assert rows[0][3].startswith("25.00 ±")
    assert difference_table(without_differences()) == ""


def test_turning_a_difference_round_turns_its_interval_round() -> None:
    facts = document().tasks
    assert facts is not None
    found = facts.between[0]

    better, worse, size, interval, _ = better_first(found)
    assert (found.one, found.other) == (worse, better)
    assert found.difference.value < 0
    assert size.startswith("25.00")
    assert interval == f"{-found.high:.2f} to {-found.low:.2f}"


def test_averages_are_compared_with_the_reference() -> None:
    head, *rows = cells(average_table(document()))

    assert head == ["Model", "Average less that of F16", "95% interval"]
    assert [row[0] for row in rows] == ["Q4_K_M", "Q4_K_M-selective"]
    assert rows[0][1].startswith("-27.50 ±")


def test_each_score_has_its_interval() -> None:
    head, first, *_ = cells(interval_table(document()))

    assert head == ["Model", "Passages", "Names"]
    assert first == ["F16", "65.24 to 89.50", "65.24 to 89.50"]


def test_each_set_says_which_of_its_tasks_were_run() -> None:
    first, second = set_lines(document())

    assert first.startswith("Passages: 40 of 42 tasks, 1 rows malformed, 25.00 % by chance")
    assert "prompt template continuation version 1" in first
    assert second.startswith("Names: ")
    assert cut_text(document()) == (
        "40 tasks per test, chosen by seed 1, and a context of 768 tokens"
    )


@pytest.mark.parametrize(
    ("p", "text"), [(1.0, "1.0000"), (0.03125, "0.0312"), (1e-4, "0.0001"), (3e-7, "below 0.0001")]
)
def test_small_probabilities_are_not_printed_as_none(p: float, text: str) -> None:
    assert p_text(p) == text


def test_the_card_has_the_section_and_its_numbers_are_in_the_results() -> None:
    found = document()
    card = render_card(found)

    assert "## Task scores" in card
    assert r"\* differs from F16 by more than chance: exact McNemar test" in card
    assert "<summary>Differences between the files, and intervals</summary>" in card
    assert unexplained_numbers(card, document_json(found)) == []


def test_the_card_shows_the_command_of_each_set_once() -> None:
    card = render_card(document())

    assert card.count("--tasks demo-passages.tasks") == 1
    assert card.count("--tasks demo-names.tasks") == 1


def test_without_scores_there_is_no_section() -> None:
    plain = results_document(sample_run(), redactor=NOBODY)

    assert "Task scores" not in render_card(plain)
    assert "% right" not in render_text(plain)


def test_the_terminal_shows_the_same_table() -> None:
    text = render_text(document())

    assert "tasks, % right" in text
    assert "52.5000 ±7.9964*" in text
    assert "* differs from F16 by more than chance: exact McNemar test" in text
    assert "scores with 40 tasks per test, chosen by seed 1" in text


def test_a_score_that_is_missing_is_a_dash() -> None:
    found = document(sample_run(config=TASKS, without=("tasks/Q4_K_M/demo-names",)))

    row = next(line for line in table_of(found) if line[0] == "Tiny-Q4_K_M")
    assert row[2:] == ["-", "-"]
