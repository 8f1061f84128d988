"""What a downloader checks a file by, and what made it."""

from __future__ import annotations

from llamacpp_pipeline.plan.provenance import RECIPE
from llamacpp_pipeline.report.figures import ABSENT
from llamacpp_pipeline.report.markdown import Markdown, cell_code, table
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.files import PublishedFile

EMPTY = Markdown("")


def provenance_table(document: ResultsDocument) -> Markdown:
    """Each file with its digest, and with its recipe's where the files say theirs."""
    recipes = {
        row.file: str(row.labels[RECIPE]) for row in document.variants if RECIPE in row.labels
    }
    files = document.files
    if not files:
        return EMPTY
    head = ["File", "sha256", *(["Recipe"] if recipes else [])]
    return table(head, [_cells(file, recipes) for file in files], text_columns=len(head))


def _cells(file: PublishedFile, recipes: dict[str, str]) -> list[str]:
    recipe = recipes.get(file.name)
    said = [] if not recipes else [ABSENT if recipe is None else cell_code(recipe)]
    return [cell_code(file.name), cell_code(file.sha256), *said]
