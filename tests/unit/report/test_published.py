"""The tables have the rows, columns and rounding of two published cards (size targets)."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

import pytest

from llamacpp_pipeline.report.card import render_card
from llamacpp_pipeline.report.card_tables import quality_table, speed_table
from tests.unit.report.published import (
    BELOW_ROUNDING,
    CARDS,
    figures,
    quality_document,
    speed_document,
)

SHARED = Path(
    os.environ.get("LLAMACPP_PIPELINE_SHARED_DATA")
    or Path(__file__).parents[3].parent / "shared" / "data"
)
HEAD = ["Model", "BPW", "Size (GB)", "μPPL", "\N{MATHEMATICAL ITALIC SMALL RHO}PPL", "μKLD",
        "Same Top-P"]  # fmt: skip


def cells(table: str) -> list[list[str]]:
    head, marks, *rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines()
    ]
    assert set("".join(marks)) == {"-", ":"}
    return [head, *rows]


def plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("shift", [0.0, BELOW_ROUNDING, -BELOW_ROUNDING])
def test_the_quality_table_is_the_published_one(card: str, shift: float) -> None:
    head, *rows = cells(quality_table(quality_document(card, shift=shift)))
    published = figures(card)["quality"]

    # Theirs says GB over figures that are GiB: 16.0019 bits x 8.95 B weights are 17.9 GB.
    assert [plain(cell).replace("GiB", "GB") for cell in head] == [plain(cell) for cell in HEAD]
    ours = sorted(rows)
    assert ours == sorted(published)


@pytest.mark.parametrize("card", CARDS)
def test_the_rows_are_in_their_order_but_for_files_of_others_which_come_last(card: str) -> None:
    _, *rows = cells(quality_table(quality_document(card)))
    published = [row[0] for row in figures(card)["quality"]]
    others = [name for name in published if name.endswith(("-naive", "-bartowski", "-unsloth"))]

    assert [row[0] for row in rows] == [n for n in published if n not in others] + others


@pytest.mark.parametrize("card", CARDS)
def test_the_speed_table_is_the_published_one(card: str) -> None:
    head, *rows = cells(speed_table(speed_document(card)))

    assert head == ["model", "size", "params", "backend", "threads", "test", "t/s"]
    assert rows == figures(card)["speed"]


@pytest.mark.parametrize("card", CARDS)
def test_the_whole_card_holds_them(card: str) -> None:
    document = quality_document(card)
    text = render_card(document)

    assert quality_table(document) in text
    assert speed_table(document) in text


@pytest.mark.parametrize("card", CARDS)
def test_the_figures_are_those_of_the_card(card: str) -> None:
    original = SHARED.parent / "cards" / f"{card}.txt"
    if not original.exists():
        pytest.skip("the published cards are not here (LLAMACPP_PIPELINE_SHARED_DATA)")
    lines = set(original.read_text(encoding="utf-8").splitlines())
    published = figures(card)
    rows = [row for part in ("quality", "tasks", "speed") for row in published[part]]

    assert [row for row in rows if " ".join(row) not in lines] == []
    n_tables = sum(bool(re.match(r"Qwen3\.\S+ [\d.]+ ", line)) for line in lines)
    assert len({" ".join(row) for row in rows}) == n_tables
