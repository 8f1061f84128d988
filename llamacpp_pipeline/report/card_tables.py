"""The card's tables and command blocks; an empty text where there is nothing to show."""

from __future__ import annotations

from typing import NamedTuple

from llamacpp_pipeline.report.figures import (
    ABSENT,
    RHO_PPL,
    compared,
    count,
    estimate,
    number,
    speed_of,
    speed_tests,
)
from llamacpp_pipeline.report.markdown import (
    Markdown,
    cell_code,
    code_block,
    escaped,
    shell,
    table,
)
from llamacpp_pipeline.results.document import CommandRun, ResultsDocument
from llamacpp_pipeline.results.table import Recipe, VariantRow
from llamacpp_pipeline.units import size_text

EMPTY = Markdown("")
ONE_IS_ENOUGH = ("kld", "bench")  # alike for every variant but for the file's name
QUALITY_HEAD = [
    "File", "BPW", "Size", "PPL", RHO_PPL, "ln PPL ratio", "Mean KLD", "Same top p", "RMS Δp",
]  # fmt: skip


class TitledTable(NamedTuple):
    """A table under its own heading."""

    title: str
    table: Markdown


def quality_table(document: ResultsDocument) -> Markdown:
    """One row per GGUF; columns that nothing was measured for are left out."""
    rows = [_quality_cells(row) for row in document.rows()]
    used = [
        index for index in range(len(QUALITY_HEAD)) if any(cells[index] != ABSENT for cells in rows)
    ]
    head = [QUALITY_HEAD[index] for index in used]
    return table(head, [[cells[index] for index in used] for cells in rows])


def percentile_tables(document: ResultsDocument) -> list[TitledTable]:
    """For each comparison: KLD metric, the other variant, this one."""
    found = compared(document)
    ftypes = [this.recipe.ftype for _, this, _ in found if this.recipe is not None]
    return [
        TitledTable(
            title=_title(this, ftypes),
            table=_plain_table(
                ["KLD metric", comparison.against_label, comparison.variant_label], rows
            ),
        )
        for comparison, this, rows in found
    ]


def speed_table(document: ResultsDocument) -> Markdown:
    """Tokens per second of each file in each test."""
    tests = speed_tests(document)
    rows = [
        [_name(row), *(_speed_cell(row, test) for test in tests)]
        for row in document.rows()
        if row.speed
    ]
    return table(["File", *map(escaped, tests)], rows) if rows else EMPTY


def override_table(document: ResultsDocument) -> Markdown:
    """Every variant's departures from its file type."""
    rows = [
        [escaped(row.label), *cells]
        for row in document.variants
        if row.recipe is not None
        for cells in _override_cells(row.recipe)
    ]
    return table(["Variant", "Tensors", "Type", "Number"], rows, text_columns=3) if rows else EMPTY


def worst_weights(document: ResultsDocument) -> Markdown:
    """The tensors with weights that F16 cannot hold."""
    if document.weights is None or document.weights.fits_f16:
        return EMPTY
    rows = [
        [
            cell_code(tensor.name),
            count(tensor.n_overflow),
            count(tensor.n_nan + tensor.n_inf),
            f"{tensor.max_abs:.6g}",
        ]
        for tensor in document.weights.worst
        if tensor.n_overflow or tensor.n_nan or tensor.n_inf
    ]
    return table(["Tensor", "Overflow", "NaN or infinite", "Largest magnitude"], rows)


def command_block(document: ResultsDocument) -> Markdown:
    """The commands as run: of those that are alike for every variant, the first."""
    making = [c for c in document.commands if _kind(c) not in ONE_IS_ENOUGH]
    measuring = [_first(document, kind) for kind in ONE_IS_ENOUGH]
    lines = [shell(command.argv) for command in [*making, *measuring] if command is not None]
    return code_block("\n\n".join(lines), "bash") if lines else EMPTY


def _kind(command: CommandRun) -> str:
    return command.step.partition("/")[0]


def _first(document: ResultsDocument, kind: str) -> CommandRun | None:
    of_variants = (
        command
        for command in document.commands
        if _kind(command) == kind and command.step != f"{kind}/reference"
    )
    return next(of_variants, None)


def _title(row: VariantRow, ftypes: list[str]) -> str:
    alone = row.recipe is not None and ftypes.count(row.recipe.ftype) == 1
    return row.recipe.ftype if row.recipe is not None and alone else row.label


def _quality_cells(row: VariantRow) -> list[str]:
    quality = row.quality
    size = [number(row.size.bpw, digits=4), size_text(row.size.file_bytes)]
    ppl = estimate(row.ppl, digits=6)
    if quality is None:
        return [_name(row), *size, ppl, *[ABSENT] * 5]
    return [
        _name(row),
        *size,
        ppl,
        number(quality.ppl_correlation, digits=2, unit=" %"),
        estimate(quality.ln_ppl_ratio, digits=6),
        estimate(quality.mean_kld, digits=6),
        estimate(quality.same_top_p, digits=3, unit=" %"),
        estimate(quality.rms_delta_p, digits=3, unit=" %"),
    ]


def _name(row: VariantRow) -> Markdown:
    if row.published:
        return cell_code(row.file)
    what = "another publisher's" if row.kind == "other" else row.kind
    return Markdown(f"{escaped(row.label)} ({what})")


def _speed_cell(row: VariantRow, test: str) -> str:
    found = speed_of(row, test)
    if found is None:
        return ABSENT
    if len(found.samples) == 1:  # no deviation to speak of
        return number(found.tokens_per_second.value, digits=2)
    return estimate(found.tokens_per_second, digits=2)


def _override_cells(recipe: Recipe) -> list[list[str]]:
    rows = [
        [cell_code(pattern), escaped(kind), _tensors(recipe, pattern)]
        for pattern, kind in recipe.tensor_types.items()
    ]
    named = (
        ("output.weight", recipe.output_tensor_type),
        ("token_embd.weight", recipe.token_embedding_type),
        ("output.weight", "unchanged" if recipe.leave_output_tensor else None),
    )
    rows += [[cell_code(name), escaped(kind), "1"] for name, kind in named if kind is not None]
    return rows


def _tensors(recipe: Recipe, pattern: str) -> str:
    found = recipe.overridden.get(pattern)
    return ABSENT if found is None else str(found)


def _plain_table(head: list[str], rows: list[tuple[str, str, str]]) -> Markdown:
    """The shape in which such tables are published: no alignment marks."""
    lines = [f"| {' | '.join(cells)} |" for cells in ([escaped(cell) for cell in head], *rows)]
    return Markdown("\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]]))
