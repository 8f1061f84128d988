"""Files made to a size, as tables of the card: asked, reached, predicted, and which types took."""

from __future__ import annotations

from collections import defaultdict

from llamacpp_pipeline.report.figures import number
from llamacpp_pipeline.report.markdown import Markdown, escaped, table
from llamacpp_pipeline.results.allocation import Allocation
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.table import VariantRow
from llamacpp_pipeline.units import size_text

EMPTY = Markdown("")
MEASURED = {"prior": "weights and imatrix", "given": "measured"}
HEAD = ["File", "Asked for", "BPW", "Bytes", "Predicted KLD", "Gap to the bound", "Sensitivities"]
MOST_TYPES = 8  # columns of the table of types


def allocated(document: ResultsDocument) -> list[tuple[VariantRow, Allocation]]:
    """The files whose types were chosen for a size."""
    return [(row, row.allocation) for row in document.variants if row.allocation is not None]


def target_table(document: ResultsDocument) -> Markdown:
    """What was asked for and what was reached; empty where nothing was asked for by size."""
    rows = [
        [
            escaped(row.label),
            escaped(asked(found)),
            number(found.reached_bpw, digits=4),
            str(found.reached_bytes),
            number(found.objective, digits=6),
            f"{number(100 * found.gap, digits=3)} %{' (optimal)' if found.optimal else ''}",
            escaped(", ".join(MEASURED.get(name, name) for name in found.alpha_sources)),
        ]
        for row, found in allocated(document)
    ]
    return table(HEAD, rows, text_columns=2) if rows else EMPTY


def asked(found: Allocation) -> str:
    """What a file was asked for by, in a few words."""
    if found.fit is not None:
        fit = found.fit
        return (
            f"{size_text(fit.memory_bytes)} of memory with {fit.n_ctx} tokens of context"
            f" ({fit.kv_type})"
        )
    if found.asked_bytes is not None:
        return f"{found.asked_bytes} bytes"
    wanted = f"{found.asked_bpw:.4f} bpw" if found.asked_bpw is not None else ""
    return wanted if found.matched is None else f"{wanted}, as {found.matched}"


def type_table(document: ResultsDocument) -> Markdown:
    """The share of a file's quantized bytes that each type holds, percent, largest first."""
    shares = {row.label: type_shares(found) for row, found in allocated(document)}
    if not shares:
        return EMPTY
    total: dict[str, float] = defaultdict(float)
    for of_one in shares.values():
        for name, share in of_one.items():
            total[name] += share
    kept = sorted(total, key=lambda name: -total[name])[:MOST_TYPES]
    rows = [
        [escaped(label), *(cell(of_one.get(name, 0)) for name in kept), cell(rest(of_one, kept))]
        for label, of_one in shares.items()
    ]
    if any(rest(of_one, kept) for of_one in shares.values()):
        return table(["File", *kept, "others"], rows)
    return table(["File", *kept], [row[:-1] for row in rows])


def type_shares(found: Allocation) -> dict[str, float]:
    """Percent of the bytes of the tensors chosen or pinned, by type."""
    size: dict[str, float] = defaultdict(float)
    for tensor in found.tensors:
        size[tensor.type] += tensor.bpw * tensor.elements
    whole = sum(size.values())
    return {name: 100 * part / whole for name, part in size.items()}


def rest(shares: dict[str, float], kept: list[str]) -> float:
    """What other types hold, percent."""
    return sum(share for name, share in shares.items() if name not in kept)


def cell(share: float) -> str:
    """A share, or nothing."""
    return f"{share:.1f} %" if share else ""


def fit_lines(document: ResultsDocument) -> tuple[str, ...]:
    """How each memory budget was made up."""
    return tuple(
        f"{row.label}: of {size_text(found.fit.memory_bytes)},"
        f" {size_text(found.fit.context_bytes)} are for the context"
        f" ({found.fit.n_ctx} tokens, {found.fit.kv_type}) and"
        f" {size_text(found.fit.compute_bytes)} for buffers, by llama.cpp's own estimate;"
        f" {size_text(found.fit.file_bytes)} were left for the file"
        for row, found in allocated(document)
        if found.fit is not None
    )
