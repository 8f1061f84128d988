"""Scores on published benchmarks in the Hub's form for them: `.eval_results/<set>.yaml`.

Only sets that come from a dataset of the Hub, all of which one dataset holds, have such a file:
an entry for each of our files, told apart by its notes.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from llamacpp_pipeline.report.figures import count
from llamacpp_pipeline.report.markdown import HUB_ID
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.table import VariantRow
from llamacpp_pipeline.results.task_scores import TaskConditions
from llamacpp_pipeline.results.write import write_text

FOLDER = ".eval_results"
SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


def write_evaluations(document: ResultsDocument, out: Path) -> None:
    """Put the files into `out`/.eval_results; those of sets that are scored no more go.

    Raises:
        InputError: where the folder cannot be written to.

    """
    files = evaluation_files(document)
    for old in (out / FOLDER).glob("*.yaml"):
        if old.name not in files:
            old.unlink()
    for name, text in files.items():
        write_text(out / FOLDER / name, text)


def evaluation_files(document: ResultsDocument) -> dict[str, str]:
    """File name to YAML, for each set that comes from one dataset of the Hub."""
    sets = () if document.tasks is None else document.tasks.sets
    return {
        f"{each.name}.yaml": _yaml(entries)
        for each in sets
        if SAFE.fullmatch(each.name) and (entries := _entries(document, each))
    }


def _entries(document: ResultsDocument, each: TaskConditions) -> list[EvalResultEntry]:
    if len(each.datasets) != 1:
        return []
    repo, _, commit = each.datasets[0].partition("@")
    if HUB_ID.fullmatch(repo) is None:
        return []
    return [
        EvalResultEntry(
            dataset_id=repo,
            dataset_revision=commit or None,
            task_id=each.name,
            value=score.score.value,
            date=document.created,
            notes=_notes(row, each),
        )
        for row in (document.reference, *document.variants)
        for score in row.tasks
        if score.set == each.name
    ]


def _notes(row: VariantRow, each: TaskConditions) -> str:
    text = (
        f"{row.file}: percent right of {each.n_tasks} of {count(each.n_read)} tasks (seed"
        f" {each.seed}), llama-perplexity --{each.form}, prompt template {each.template} version"
        f" {each.template_version}, n_ctx {each.n_ctx}"
    )
    return " ".join(text.split())


def _yaml(entries: list[EvalResultEntry]) -> str:
    data = eval_result_entries_to_yaml(entries)
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=1000)
