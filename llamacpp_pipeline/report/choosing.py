"""The card's help for a downloader: which file fits, what it is made of, how to start it."""

from __future__ import annotations

from llamacpp_pipeline.report.figures import ABSENT, bench_size, close_estimate
from llamacpp_pipeline.report.markdown import (
    Markdown,
    cell_code,
    code,
    code_block,
    escaped,
    hub_link,
    shell,
    table,
)
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.table import VariantRow

EMPTY = Markdown("")
USUAL_CACHE = "f16"


def choose_table(document: ResultsDocument) -> Markdown:
    """Our files from the largest to the smallest: memory, closeness, and which to pass over."""
    rows = by_size(document)
    needs = list(dict.fromkeys((n.n_ctx, n.kv_type) for row in rows for n in row.memory))
    memory = [_memory_title(*need) for need in needs] or ["Memory for the weights"]
    head = ["File", "Size", *memory, "μKLD", "Remark"]
    cells = [
        [
            cell_code(row.file),
            bench_size(row.size.file_bytes),
            *(_memory(row, needs) if needs else [bench_size(row.size.tensor_bytes)]),
            ABSENT if row.quality is None else close_estimate(row.quality.mean_kld, digits=6),
            _remark(document, row),
        ]
        for row in rows
    ]
    used = [at for at in range(len(head)) if any(line[at] not in ("", ABSENT) for line in cells)]
    return table([head[at] for at in used], [[line[at] for at in used] for line in cells])


def start_commands(document: ResultsDocument) -> Markdown:
    """How to get a file and start it: of those that none beats, the one in the middle."""
    beaten = {found.label for found in document.beaten}
    files = [row.file for row in by_size(document) if row.label not in beaten]
    if not files:
        return EMPTY
    file = files[len(files) // 2]
    lines = (
        ("hf", "download", "REPOSITORY", file, "--local-dir", "."),
        ("llama-cli", "-m", file),
        ("llama-server", "-m", file, "--port", "8080"),
    )
    return code_block("\n".join(map(shell, lines)), "bash")


def recipe_table(document: ResultsDocument) -> Markdown:
    """What each of our files is made of: tensors by type, the most first."""
    rows = [
        [
            escaped(row.label),
            escaped(row.recipe.ftype),
            "yes" if row.recipe.imatrix else "no",
            _types(row),
        ]
        for row in document.variants
        if row.recipe is not None
    ]
    head = ["Variant", "File type", "Imatrix", "Tensors by type"]
    return table(head, rows, text_columns=4) if rows else EMPTY


def other_files(document: ResultsDocument) -> list[Markdown]:
    """The other publishers' files: a sentence each."""
    return [_other(row) for row in document.references]


def by_size(document: ResultsDocument) -> list[VariantRow]:
    """Our published files, the largest first."""
    rows = [row for row in document.variants if row.published]
    return sorted(rows, key=lambda row: -row.size.file_bytes)


def _memory_title(n_ctx: int, kv_type: str) -> str:
    cache = "" if kv_type == USUAL_CACHE else f", {escaped(kv_type)} cache"
    return f"Memory at {n_ctx} tokens{cache}"


def _memory(row: VariantRow, needs: list[tuple[int, str]]) -> list[str]:
    known = {(need.n_ctx, need.kv_type): need.total_bytes for need in row.memory}
    return [bench_size(known[need]) if need in known else ABSENT for need in needs]


def _remark(document: ResultsDocument, row: VariantRow) -> Markdown:
    by = next((found.by for found in document.beaten if found.label == row.label), None)
    return EMPTY if by is None else Markdown(f"{escaped(by)} is no larger and closer")


def _types(row: VariantRow) -> str:
    counted = sorted(row.size.types.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{escaped(name)} {number}" for name, number in counted) or ABSENT


def _other(row: VariantRow) -> Markdown:
    origin = row.origin
    parts = [f"{escaped(row.label)}: {code(row.file)}"]
    if origin is not None and origin.repo is not None:
        at = "" if origin.commit is None else f" at commit {code(origin.commit[:12])}"
        parts.append(f"of {hub_link(origin.repo)}{at}")
    if origin is not None and origin.quantized_by is not None:
        parts.append(f"quantized by {escaped(origin.quantized_by)}")
    if origin is not None and origin.imatrix_dataset is not None:
        parts.append(f"imatrix from {code(origin.imatrix_dataset)}")
    notes = () if origin is None else origin.notes
    return Markdown(", ".join([*parts, *map(escaped, notes)]))
