"""The results as aligned plain text."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from llamacpp_pipeline.report.choices import choice_lines
from llamacpp_pipeline.report.figures import (
    ABSENT,
    RHO_PPL,
    compared,
    count,
    digest,
    estimate,
    number,
    percentile,
    speed_of,
)
from llamacpp_pipeline.report.task_tables import terminal_lines, terminal_rows
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.table import VariantRow
from llamacpp_pipeline.stages.kld import KldResult
from llamacpp_pipeline.units import size_text

Cell = Callable[[VariantRow], str]
GAP = "  "


def render_text(document: ResultsDocument) -> str:
    """Everything a person wants to see after a run; ends with a newline."""
    parts = [_headline(document), _main_table(document), *_comparisons(document)]
    parts += [aligned(rows) for rows in [terminal_rows(document)] if rows]
    parts += [
        "\n".join(lines) for lines in (choice_lines(document), _conditions(document)) if lines
    ]
    return "\n\n".join(parts) + "\n"


def aligned(rows: Sequence[Sequence[str]], *, text_columns: Container[int] = (0,)) -> str:
    """Columns of equal width: text to the left, numbers to the right."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = (
        GAP.join(
            cell.ljust(width) if index in text_columns else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def _headline(document: ResultsDocument) -> str:
    model = document.model
    facts = [document.name, model.architecture or model.gguf_architecture]
    if model.n_parameters is not None:
        facts.append(f"{count(model.n_parameters)} parameters")
    return ", ".join(facts)


def _quality(cell: Callable[[KldResult], str]) -> Cell:
    return lambda row: ABSENT if row.quality is None else cell(row.quality)


def _speed(test: str) -> Cell:
    def cell(row: VariantRow) -> str:
        found = speed_of(row, test)
        return ABSENT if found is None else number(found.tokens_per_second.value, digits=1)

    return cell


COLUMNS: tuple[tuple[str, Cell], ...] = (
    ("variant", lambda row: row.label),
    ("BPW", lambda row: number(row.size.bpw, digits=3)),
    ("size", lambda row: size_text(row.size.file_bytes)),
    ("PPL", lambda row: estimate(row.ppl, digits=4)),
    ("PPL ratio", _quality(lambda q: number(q.ppl_ratio.value, digits=4))),
    (RHO_PPL, _quality(lambda q: number(q.ppl_correlation, digits=2, unit=" %"))),
    ("mean KLD", _quality(lambda q: estimate(q.mean_kld, digits=6))),
    ("99.9 % KLD", _quality(lambda q: percentile(q, "99.9"))),
    ("max KLD", _quality(lambda q: number(q.max_kld, digits=4))),
    ("same top p %", _quality(lambda q: estimate(q.same_top_p, digits=2))),
    ("RMS Δp %", _quality(lambda q: estimate(q.rms_delta_p, digits=2))),
    ("pp512 t/s", _speed("pp512")),
    ("tg128 t/s", _speed("tg128")),
)


def _main_table(document: ResultsDocument) -> str:
    rows = document.rows()
    columns = [(name, [cell(row) for row in rows]) for name, cell in COLUMNS]
    shown = [[name, *cells] for name, cells in columns if any(cell != ABSENT for cell in cells)]
    return aligned(list(zip(*shown, strict=True)))


def _comparisons(document: ResultsDocument) -> list[str]:
    return [
        aligned([(this.label, comparison.against_label, comparison.variant_label), *rows])
        for comparison, this, rows in compared(document)
    ]


def _conditions(document: ResultsDocument) -> list[str]:
    under = document.conditions
    measured = (
        f"PPL and KLD on {under.corpus.label} (sha256 {digest(under.corpus.sha256)}), "
        f"n_ctx {under.n_ctx}, {under.n_chunks} chunks, "
        f"llama.cpp {digest(under.commit)}, BuildId {digest(under.build_id)}"
    )
    lines = [measured]
    if document.noise_floor is not None:
        floor = estimate(document.noise_floor.mean_kld, digits=6)
        lines.append(f"noise floor (the reference against its own logits): mean KLD {floor}")
    lines += terminal_lines(document)
    if document.speed is not None:
        lines.append(f"tokens per second on {speed_machine(document)}")
    if document.imatrix is not None:
        lines += [f"imatrix: {note}" for note in document.imatrix.notes]
    lines += [f"{row.label}: {_origin(row)}" for row in document.references]
    if document.toolchain.note:
        lines.append(f"llama.cpp: {document.toolchain.note}")
    if document.incomplete:
        lines.append(f"not finished: {', '.join(document.incomplete)}")
    return lines


def _origin(row: VariantRow) -> str:
    origin = row.origin
    where = "" if origin is None or origin.repo is None else f", {origin.repo}"
    return f"another publisher's file {row.file}{where}"


def speed_machine(document: ResultsDocument) -> str:
    """What the speeds were measured on; empty where none were."""
    speed = document.speed
    if speed is None:
        return ""
    parts = [speed.gpu, speed.cpu] if speed.gpu else [speed.cpu]
    layers = f", n_gpu_layers {speed.n_gpu_layers}" if speed.gpu else ""
    threads = f"{speed.n_threads} thread{'s' if speed.n_threads != 1 else ''}"
    return f"{', '.join(parts)}, {threads}{layers}, backend {speed.backends}"
