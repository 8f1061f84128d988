"""Files made to a size, as a table of the card: asked for, reached, predicted."""

from __future__ import annotations

from llamacpp_pipeline.report.figures import number
from llamacpp_pipeline.report.markdown import Markdown, escaped, table
from llamacpp_pipeline.results.allocation import Allocation
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.table import VariantRow
from llamacpp_pipeline.units import size_text

EMPTY = Markdown("")
MEASURED = {"prior": "weights and imatrix", "given": "measured"}
HEAD = ["File", "Asked for", "BPW", "Bytes", "Predicted KLD", "Gap to the bound", "Sensitivities"]


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
            f"{number(found.gap, digits=4)}{' (optimal)' if found.optimal else ''}",
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
    if found.kld is not None:
        return f"mean KLD {found.kld.asked:g}"
    wanted = f"{found.asked_bpw:.4f} bpw" if found.asked_bpw is not None else ""
    return wanted if found.matched is None else f"{wanted}, as {found.matched}"


def kld_lines(document: ResultsDocument) -> tuple[str, ...]:
    """What became of each KLD that was asked for, on the text it was asked for and on another."""
    return tuple(
        f"{row.label}: a mean KLD of {found.kld.asked:g} was asked for on the probe text, where"
        f" {found.asked_bpw:.4f} bpw are predicted to reach {found.kld.predicted:.6f};"
        f" {measured(row, found)}"
        for row, found in allocated(document)
        if found.kld is not None
    )


def measured(row: VariantRow, found: Allocation) -> str:
    """The KLD that was found: on the text of the prediction, where it was refined, and another."""
    tried = () if found.refinement is None else found.refinement.mixes
    kept = "" if found.refinement is None else found.refinement.kept
    there = [f"{mix.on_probe.value:.6f} on it" for mix in tried if mix.name == kept]
    if row.quality is not None:
        there.append(f"{row.quality.mean_kld.value:.6f} on the evaluation text")
    return f"measured: {', '.join(there)}" if there else "not measured"


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
