"""The percentile table has the rows, columns and rounding in which such tables are published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llamacpp_pipeline.report.card import render_card
from llamacpp_pipeline.report.terminal import render_text
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.document import ResultsDocument
from tests.unit.results.sample import NOBODY, kld_result, sample_run, with_result

# The KLD tables of a published card (selective Q8_0 of Qwen3.5-0.8B), cell by cell.
PUBLISHED: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("published_percentiles.json").read_text(encoding="utf-8")
)
BELOW_ROUNDING = 4e-7
PERCENTILES = {
    "99.9% KLD": "99.9",
    "99.0% KLD": "99.0",
    "95.0% KLD": "95.0",
    "90.0% KLD": "90.0",
    "Median KLD": "50.0",
    "10.0% KLD": "10.0",
    "5.0% KLD": "5.0",
    "1.0% KLD": "1.0",
    "0.1% KLD": "0.1",
}


def measured(rows: list[list[str]], column: int, *, shift: float) -> dict[str, Any]:
    cells = {row[0]: row[column] for row in rows}
    value, stderr = cells["Mean KLD"].split(" ± ")
    return {
        "mean_kld": {"value": float(value) + shift, "stderr": float(stderr) + shift},
        "max_kld": float(cells["Maximum KLD"]) + shift,
        "kld_percentiles": {key: float(cells[label]) + shift for label, key in PERCENTILES.items()},
    }


def published_document(*, shift: float = 0.0) -> ResultsDocument:
    variants, compare = [], []
    for table in PUBLISHED:
        ftype, (_, against_label, variant_label) = table["ftype"], table["head"]
        variants += [{"ftype": ftype, "name": f"{ftype}-plain"}, {"ftype": ftype}]
        compare.append(
            {
                "variant": ftype,
                "against": f"{ftype}-plain",
                "variant_label": variant_label,
                "against_label": against_label,
            }
        )
    run = sample_run(config={"variants": variants, "card": {"compare": compare}})
    for table in PUBLISHED:
        for name, column in ((f"{table['ftype']}-plain", 1), (table["ftype"], 2)):
            figures = measured(table["rows"], column, shift=shift)
            run = with_result(run, f"kld/{name}", **{**kld_result(), **figures})
    return results_document(run, redactor=NOBODY)


def section(card: str, heading: str) -> list[str]:
    """The lines under a heading, to the next one, without blank ones."""
    lines = card.splitlines()
    start = lines.index(heading) + 1
    end = next((i for i in range(start, len(lines)) if lines[i].startswith("#")), len(lines))
    return [line for line in lines[start:end] if line]


@pytest.mark.parametrize("shift", [0.0, BELOW_ROUNDING, -BELOW_ROUNDING])
@pytest.mark.parametrize("table", PUBLISHED, ids=lambda table: str(table["ftype"]))
def test_the_card_has_the_published_table(table: dict[str, Any], shift: float) -> None:
    card = render_card(published_document(shift=shift))

    assert section(card, f"### {table['ftype']}") == [
        "| KLD metric | Unsloth | this |",
        "|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in table["rows"]),
    ]


def test_the_published_tables_come_in_their_order() -> None:
    card = render_card(published_document())
    positions = [card.index(f"### {table['ftype']}\n") for table in PUBLISHED]

    assert positions == sorted(positions)
    assert [table["ftype"] for table in PUBLISHED] == ["Q4_K_M", "Q5_K_M", "Q6_K"]


def test_the_terminal_has_the_same_figures() -> None:
    text = render_text(published_document())

    for table in PUBLISHED:
        for row in table["rows"]:
            assert any(
                line.startswith(row[0]) and line.split()[-1] == row[2].split()[-1]
                for line in text.splitlines()
            )


def test_two_comparisons_of_one_file_type_are_told_apart() -> None:
    variants = [{"ftype": "Q6_K", "name": name} for name in ("a", "b", "c")]
    compare = [{"variant": name, "against": "a"} for name in ("b", "c")]
    run = sample_run(config={"variants": variants, "card": {"compare": compare}})

    card = render_card(results_document(run, redactor=NOBODY))

    assert "### b\n" in card
    assert "### c\n" in card
    assert "| KLD metric | a | this |" in card


def test_a_percentile_that_neither_file_has_makes_no_row() -> None:
    run = sample_run()
    for name in ("Q4_K_M", "Q4_K_M-selective"):
        run = with_result(run, f"kld/{name}", kld_percentiles={"99.9": 0.5, "50.0": 0.1})

    card = render_card(results_document(run, redactor=NOBODY))
    labels = [line.split("|")[1].strip() for line in section(card, "### Q4_K_M")]

    assert labels == ["KLD metric", "---", "Mean KLD", "Maximum KLD", "99.9% KLD", "Median KLD"]
