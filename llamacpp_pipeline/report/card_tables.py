"""The card's tables and command blocks; an empty text where there is nothing to show."""

from __future__ import annotations

from typing import NamedTuple

from llamacpp_pipeline.report.figures import (
    ABSENT,
    MEDIAN,
    RHO_PPL,
    bench_count,
    bench_size,
    close_estimate,
    compared,
    count,
    number,
    percentile,
    size_column,
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
from llamacpp_pipeline.stages.bench import BenchRow

EMPTY = Markdown("")
ONE_IS_ENOUGH = ("kld", "bench", "tasks")  # alike for every variant but for the file's name
QUALITY_HEAD = ["μPPL", RHO_PPL, "μKLD", "Same Top-P"]
TAIL_HEAD = ["Model", "ln PPL ratio", "Median KLD", "99% KLD", "99.9% KLD", "Max KLD", "RMS Δp"]
SPEED_HEAD = ["model", "size", "params", "backend", "threads", "test", "t/s"]
NOT_APPLICABLE = "N/A"
HUNDRED = "100%"  # of the reference with itself


class TitledTable(NamedTuple):
    """A table under its own heading."""

    title: str
    table: Markdown


def quality_table(document: ResultsDocument) -> Markdown:
    """One row per GGUF; columns that nothing was measured for are left out."""
    rows = document.rows()
    unit, sizes = size_column([row.size.file_bytes for row in rows])
    head = ["Model", "BPW", f"Size ({unit})", *QUALITY_HEAD]
    cells = [
        [row_name(row), number(row.size.bpw, digits=4), size, *_quality_cells(row)]
        for row, size in zip(rows, sizes, strict=True)
    ]
    return _without_unused(head, cells, unused=(ABSENT, NOT_APPLICABLE, HUNDRED))


def tail_table(document: ResultsDocument) -> Markdown:
    """What the quality table leaves out: the rare large misses, and probabilities."""
    rows = [
        [
            row_name(row),
            close_estimate(kld.ln_ppl_ratio, digits=6),
            percentile(kld, MEDIAN),
            percentile(kld, "99.0"),
            percentile(kld, "99.9"),
            number(kld.max_kld, digits=6),
            close_estimate(kld.rms_delta_p, digits=3),
        ]
        for row in document.rows()
        if (kld := row.quality) is not None
    ]
    return table(TAIL_HEAD, rows) if rows else EMPTY


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
    """Tokens per second of each file in each test, as llama-bench's own tables are made."""
    under = document.speed
    rows = [
        [
            row_name(row),
            bench_size(row.size.tensor_bytes),
            bench_count(row.size.n_elements),
            escaped(under.backends),
            str(under.n_threads),
            escaped(one.test),
            _speed(one),
        ]
        for row in document.rows()
        for one in row.speed
        if under is not None
    ]
    return table(SPEED_HEAD, rows) if rows else EMPTY


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
    lines = [shell(command.argv) for command in [*making, *_measuring(document)]]
    return code_block("\n\n".join(lines), "bash") if lines else EMPTY


def _kind(command: CommandRun) -> str:
    return command.step.partition("/")[0]


def _measuring(document: ResultsDocument) -> list[CommandRun]:
    """The first variant's of each kind; of the scores one for each set."""
    found: dict[tuple[int, str], CommandRun] = {}
    for command in document.commands:
        kind, label, *which = [*command.step.split("/"), ""]
        if kind in ONE_IS_ENOUGH and label != "reference":
            found.setdefault((ONE_IS_ENOUGH.index(kind), "/".join(which)), command)
    return [found[key] for key in sorted(found, key=lambda key: key[0])]


def _title(row: VariantRow, ftypes: list[str]) -> str:
    alone = row.recipe is not None and ftypes.count(row.recipe.ftype) == 1
    return row.recipe.ftype if row.recipe is not None and alone else row.label


def row_name(row: VariantRow) -> Markdown:
    """What a file is called in tables: its name without the ending, and whose it is."""
    stem = row.file.removesuffix(".gguf")
    of_another = row.kind == "other" and row.label not in stem
    return escaped(f"{stem} ({row.label})" if of_another else stem)


def _quality_cells(row: VariantRow) -> list[str]:
    quality, ppl = row.quality, close_estimate(row.ppl, digits=6)
    if row.kind == "reference":
        return [ppl, HUNDRED, NOT_APPLICABLE, NOT_APPLICABLE]
    if quality is None:
        return [ppl, *[ABSENT] * 3]
    return [
        ppl,
        number(quality.ppl_correlation, digits=2, unit="%"),
        close_estimate(quality.mean_kld, digits=6),
        close_estimate(quality.same_top_p, digits=3),
    ]


def _without_unused(head: list[str], rows: list[list[str]], *, unused: tuple[str, ...]) -> Markdown:
    used = [at for at in range(len(head)) if any(cells[at] not in unused for cells in rows)]
    return table([head[at] for at in used], [[cells[at] for at in used] for cells in rows])


def _speed(one: BenchRow) -> str:
    if len(one.samples) == 1:  # no deviation to speak of
        return number(one.tokens_per_second.value, digits=2)
    return close_estimate(one.tokens_per_second, digits=2)


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
