"""What each picture shows: the results document as tables. Pure; no matplotlib."""

from __future__ import annotations

from collections.abc import Sequence

from llamacpp_pipeline.report.activations import change
from llamacpp_pipeline.report.figures import (
    HIGH_PERCENTILES,
    LOW_PERCENTILES,
    MEDIAN,
    speed_tests,
)
from llamacpp_pipeline.report.plots.table import Cell, PlotTable
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.table import VariantRow
from llamacpp_pipeline.stages.kld import KldResult

WHO = ("label", "kind", "file_bytes", "bpw")
PERCENTILES = tuple(reversed((*HIGH_PERCENTILES, MEDIAN, *LOW_PERCENTILES)))
LARGEST = "100"


def kld_by_size(document: ResultsDocument) -> PlotTable | None:
    """Mean KLD of each file, and whether none is as small and better."""
    found = [
        (row, kld)
        for row in measured(document)
        if (kld := row.quality) is not None and kld.mean_kld.value > 0
    ]
    best = pareto([(row.size.file_bytes, kld.mean_kld.value) for row, kld in found])
    rows = [
        (*_who(row), kld.mean_kld.value, kld.mean_kld.stderr, at in best)
        for at, (row, kld) in enumerate(found)
    ]
    return _table((*WHO, "mean_kld", "stderr", "pareto"), rows)


def ppl_ratio_by_bpw(document: ResultsDocument) -> PlotTable | None:
    """PPL of each file over the reference's."""
    rows = [
        (*_who(row), row.quality.ppl_ratio.value, row.quality.ppl_ratio.stderr)
        for row in measured(document)
        if row.quality is not None
    ]
    return _table((*WHO, "ppl_ratio", "stderr"), rows)


def kld_percentiles(document: ResultsDocument) -> PlotTable | None:
    """The KLD that so many percent of the tokens stay below, for each file; above 0 only."""
    rows = [
        (row.label, row.size.bpw, percent, value)
        for row in sorted(measured(document), key=lambda row: row.size.bpw)
        if row.quality is not None
        for percent, value in _percentiles(row.quality)
        if value > 0
    ]
    return _table(("label", "bpw", "percent_of_tokens", "kld"), rows)


def speed_by_size(document: ResultsDocument) -> PlotTable | None:
    """Tokens per second of each file in each test; `stddev` over the repetitions."""
    rows = [
        (test, *_who(row), one.tokens_per_second.value, one.tokens_per_second.stderr)
        for test in speed_tests(document)
        for row in document.rows()
        for one in row.speed
        if one.test == test
    ]
    return _table(("test", *WHO, "tokens_per_second", "stddev"), rows)


def task_average_by_size(document: ResultsDocument) -> PlotTable | None:
    """Average score of each file over the evaluation sets, percent, and what a guess scores."""
    sets = () if document.tasks is None else document.tasks.sets
    if not sets:
        return None
    chance = sum(each.chance for each in sets) / len(sets)
    rows = [
        (*_who(row), row.task_average.value, row.task_average.stderr, chance)
        for row in document.rows()
        if row.task_average is not None
    ]
    return _table((*WHO, "task_average", "stderr", "chance"), rows)


def activation_profile(document: ResultsDocument) -> PlotTable | None:
    """H_diag of tensors and layers, and how like the layer before a layer's inputs are."""
    facts = document.imatrix
    if facts is None or not facts.layer_h_diag:
        return None
    tensors: list[tuple[Cell, ...]] = [
        ("tensor", one.name, one.layer, one.h_diag, None)
        for one in facts.tensor_h_diag
        if one.layer is not None
    ]
    like = {
        layer.layer: None if found is None else found.cosine_similarity
        for layer in facts.layers
        for found in (change(layer),)
    }
    layers: list[tuple[Cell, ...]] = [
        ("layer", None, one.layer, one.h_diag, like.get(one.layer)) for one in facts.layer_h_diag
    ]
    return _table(("of", "name", "layer", "h_diag", "similarity_to_layer_before"), tensors + layers)


def pareto(points: Sequence[tuple[float, float]]) -> set[int]:
    """Which of (size, loss) no other equals in both and beats in one."""
    front: set[int] = set()
    least = float("inf")
    for at in sorted(range(len(points)), key=lambda at: points[at]):
        if points[at][1] < least:
            least = points[at][1]
            front.add(at)
    return front


def measured(document: ResultsDocument) -> list[VariantRow]:
    """The files, ours and others', that were compared with the reference."""
    return [row for row in document.rows() if row.quality is not None]


def _who(row: VariantRow) -> tuple[Cell, ...]:
    return (row.label, row.kind, row.size.file_bytes, row.size.bpw)


def _percentiles(kld: KldResult) -> list[tuple[str, float]]:
    known = kld.kld_percentiles
    return [*((name, known[name]) for name in PERCENTILES if name in known), (LARGEST, kld.max_kld)]


def _table(columns: tuple[str, ...], rows: Sequence[tuple[Cell, ...]]) -> PlotTable | None:
    return PlotTable(columns=columns, rows=tuple(rows)) if rows else None
