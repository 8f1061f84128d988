"""The card's findings on sensitivity: which tensors matter, and what knowing it changed."""

from __future__ import annotations

from llamacpp_pipeline.report.changes import Change, changes, roles
from llamacpp_pipeline.report.figures import ABSENT, estimate, number
from llamacpp_pipeline.report.markdown import Markdown, cell_code, escaped, table
from llamacpp_pipeline.report.measured import (
    alpha_text,
    change_text,
    compared,
    fit_text,
    how_measured,
    missing_text,
    ordered,
    over_prior,
    prediction_text,
    price_text,
    signed,
    unpredicted,
)
from llamacpp_pipeline.report.sensitivity_text import nats
from llamacpp_pipeline.results.allocation import AllocatedTensor, Allocation
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.sensitivity import MeasuredTensor, SensitivityFacts

SHOWN = 5
EMPTY = Markdown("")
SOURCES = {
    "prior": "estimated from weights and imatrix",
    "given": "measured on the model, or given",
}
MEASURED_HEAD = ["Tensor", "Alpha", "Times the prior", "Weights, % of all measured"]
ROLE_HEAD = ["Role", "Tensors", "BPW before", "after", "Bytes", "Predicted KLD before", "after"]
PREDICTED_HEAD = ["File", "BPW", "Predicted", "Measured", "Predicted / measured"]


def sensitive_table(document: ResultsDocument) -> Markdown:
    """The most and the least sensitive tensors: as measured, else as a file by size assumes them.

    Empty where neither is known.
    """
    if document.sensitivity is not None:
        return _measured_table(document.sensitivity)
    found = first_allocation(document)
    if found is None:
        return EMPTY
    pairs = sorted(_known(found), key=lambda pair: (-pair[0], pair[1].name))
    if len(pairs) < 2 * SHOWN:
        return EMPTY
    rows = [["Most sensitive", _told(pairs[:SHOWN])], ["Least", _told(pairs[-SHOWN:])]]
    return table(["Tensors", "Name (alpha, nats per unit of relative error)"], rows, text_columns=2)


def source_text(document: ResultsDocument) -> str:
    """Where the sensitivities come from; empty where there are none."""
    if document.sensitivity is not None:
        return "measured on the model"
    found = first_allocation(document)
    return "" if found is None else ", or ".join(SOURCES.get(s, s) for s in found.alpha_sources)


def first_allocation(document: ResultsDocument) -> Allocation | None:
    """That of the first file by size; they are made with one set of sensitivities."""
    return next((row.allocation for row in document.variants if row.allocation), None)


def measured_lines(document: ResultsDocument) -> list[str]:
    """How the sensitivities were measured, and their price; empty where they were not."""
    facts = document.sensitivity
    if facts is None:
        return []
    price = "" if facts.price is None else f"Its price: {price_text(facts.price)}"
    lines = [f"Measured: {how_measured(facts)}.", missing_text(facts), price]
    return [line for line in lines if line]


def change_tables(document: ResultsDocument) -> list[tuple[str, Markdown]]:
    """Each file made with measured sensitivities against the mix of its size: words and table."""
    return [(change_text(change), role_table(change)) for change in changes(document)]


def role_table(change: Change) -> Markdown:
    """What each role of tensor got, those first that got most."""
    found = roles(change)
    rows = [
        [
            escaped(role.role),
            str(role.n_tensors),
            number(role.bpw_before, digits=3),
            number(role.bpw_after, digits=3),
            more,
            nats(role.divergence_before),
            nats(role.divergence_after),
        ]
        for role, more in zip(found, signed([role.more for role in found]), strict=True)
    ]
    return table(ROLE_HEAD, rows)


def predicted_table(document: ResultsDocument) -> Markdown:
    """Predicted and measured mean KLD of each file; empty where nothing was predicted."""
    facts = document.sensitivity
    if facts is None or not compared(facts):
        return EMPTY
    rows = [
        [
            escaped(one.label),
            ABSENT if (row := document.row(one.label)) is None else number(row.size.bpw, digits=3),
            number(one.predicted, digits=6),
            estimate(one.measured, digits=6),
            number(one.ratio, digits=3),
        ]
        for one in compared(facts)
    ]
    return table(PREDICTED_HEAD, rows)


def predicted_lines(document: ResultsDocument) -> list[str]:
    """By what factor the predictions are off, and which files have none."""
    facts = document.sensitivity
    said = prediction_text(document)
    return [*([said] if said else []), *([] if facts is None else unpredicted(facts))]


def fit_line(document: ResultsDocument) -> str:
    """How well few types predict the rest; empty where that cannot be said."""
    return "" if document.sensitivity is None else fit_text(document.sensitivity)


def _measured_table(facts: SensitivityFacts) -> Markdown:
    every, weights = ordered(facts), sum(tensor.elements for tensor in facts.tensors)
    few = len(every) <= 2 * SHOWN
    shown = every if few else [*every[:SHOWN], *every[-SHOWN:]]
    rows = [_measured_row(tensor, weights) for tensor in shown]
    if not few:
        rows.insert(SHOWN, ["…", "", "", ""])
    return table(MEASURED_HEAD, rows)


def _measured_row(tensor: MeasuredTensor, weights: int) -> list[str]:
    share = number(100 * tensor.elements / weights, digits=2)
    return [cell_code(tensor.name), alpha_text(tensor.alpha), over_prior(tensor), share]


def _known(found: Allocation) -> list[tuple[float, AllocatedTensor]]:
    return [(one.alpha, one) for one in found.tensors if one.alpha is not None and one.alpha > 0]


def _told(pairs: list[tuple[float, AllocatedTensor]]) -> str:
    return ", ".join(f"{cell_code(one.name)} ({number(alpha, digits=5)})" for alpha, one in pairs)
