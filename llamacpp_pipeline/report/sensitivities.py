"""The card's findings on sensitivity: which tensors a file by size had to spare, and which not."""

from __future__ import annotations

from llamacpp_pipeline.report.figures import number
from llamacpp_pipeline.report.markdown import Markdown, cell_code, table
from llamacpp_pipeline.results.allocation import AllocatedTensor, Allocation
from llamacpp_pipeline.results.document import ResultsDocument

SHOWN = 5
EMPTY = Markdown("")
SOURCES = {
    "prior": "estimated from weights and imatrix",
    "given": "measured on the model, or given",
}


def sensitive_table(document: ResultsDocument) -> Markdown:
    """The most and the least sensitive tensors; empty where no file was made by size."""
    found = first_allocation(document)
    if found is None:
        return EMPTY
    ordered = sorted(_known(found), key=lambda pair: (-pair[0], pair[1].name))
    if len(ordered) < 2 * SHOWN:
        return EMPTY
    rows = [["Most sensitive", _told(ordered[:SHOWN])], ["Least", _told(ordered[-SHOWN:])]]
    return table(["Tensors", "Name (alpha, nats per unit of relative error)"], rows, text_columns=2)


def source_text(document: ResultsDocument) -> str:
    """Where the sensitivities come from; empty where there are none."""
    found = first_allocation(document)
    return "" if found is None else ", or ".join(SOURCES.get(s, s) for s in found.alpha_sources)


def first_allocation(document: ResultsDocument) -> Allocation | None:
    """That of the first file by size; they are made with one set of sensitivities."""
    return next((row.allocation for row in document.variants if row.allocation), None)


def _known(found: Allocation) -> list[tuple[float, AllocatedTensor]]:
    return [(one.alpha, one) for one in found.tensors if one.alpha is not None and one.alpha > 0]


def _told(pairs: list[tuple[float, AllocatedTensor]]) -> str:
    return ", ".join(f"{cell_code(one.name)} ({number(alpha, digits=5)})" for alpha, one in pairs)
