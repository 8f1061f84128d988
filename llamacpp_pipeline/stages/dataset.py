"""A published evaluation set to the file that llama-perplexity reads, of the tasks chosen."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from pydantic import PositiveInt, ValidationError

from llamacpp_pipeline.datasets.convert import Converted, Named, Part, Recipe, convert
from llamacpp_pipeline.datasets.forms import FORMS
from llamacpp_pipeline.datasets.index import index_of, read_index
from llamacpp_pipeline.datasets.layouts import Layout
from llamacpp_pipeline.datasets.rows import Container
from llamacpp_pipeline.datasets.task import Form
from llamacpp_pipeline.datasets.templates import Template
from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages import own_tool
from llamacpp_pipeline.stages.base import Argv, Frozen, Paths, ToolStage
from llamacpp_pipeline.stages.fetched_files import refuse_other_content, sha256_of
from llamacpp_pipeline.stages.llama_log import complaints

TOOL = "llamacpp_pipeline.stages.dataset"
MOST_PARTS = 8


class PartParams(Frozen):
    """What one source of the set is."""

    label: str  # "" where it is the only one; else before each id
    pattern: str | None = None  # of the files wanted, where the source is a folder
    container: Container
    layout: Layout
    sha256: str | None = None  # what the file must be, where that is known


class DatasetParams(Frozen):
    """Which tasks, and in which words."""

    name: str
    form: Form
    template: Template
    parts: tuple[PartParams, ...]  # in the order of the inputs
    n_tasks: PositiveInt | None  # None: all
    seed: int


class RowNote(Frozen):
    """A row that is not in the set, and why. The reasons quote no text of the set."""

    row: str
    why: str


class DatasetResult(Frozen):
    name: str
    form: Form
    template: str
    template_version: PositiveInt
    n_asked: PositiveInt | None
    seed: int
    n_read: PositiveInt
    n_chosen: PositiveInt
    malformed: tuple[RowNote, ...]
    left_out: tuple[RowNote, ...]  # rows that their publisher calls wrong
    most_answers: PositiveInt
    sources: tuple[str, ...]  # sha256 of each part's file; of several: over names and digests
    sha256: str  # of the file of tasks
    ids: tuple[str, ...]  # in the order of the file


def source_name(at: int) -> str:
    """The input that holds the part at a position from 0."""
    return f"source{at + 1}"


def argv(params: DatasetParams, paths: Paths) -> Argv:
    sources = [("--source", str(paths[source_name(at)])) for at in range(len(params.parts))]
    return (
        TOOL,
        *(word for source in sources for word in source),
        *("--params", params.model_dump_json()),
        *("--tasks", str(paths["tasks"])),
        *("--index", str(paths["index"])),
        *("--report", str(paths["report"])),
    )


def parse(log: str, paths: Paths) -> DatasetResult:
    try:
        result = DatasetResult.model_validate_json(paths["report"].read_bytes())
    except (OSError, ValidationError) as error:
        raise UnreadableOutputError(TOOL, "its report", complaints(log)) from error
    ids = tuple(entry.id for entry in read_index(paths["index"]))
    if ids != result.ids or sha256_of(paths["tasks"]) != result.sha256:
        raise UnreadableOutputError(TOOL, "the tasks that its report names", complaints(log))
    return result


def converted_files(
    params: DatasetParams, sources: Sequence[Path], *, tasks: Path, index: Path
) -> DatasetResult:
    """Write the file of the chosen tasks and its index.

    Raises:
        InputError: where a source is not what it must be, or not readable as it should be.

    """
    parts = [part(said, source) for said, source in zip(params.parts, sources, strict=True)]
    recipe = Recipe(
        form=params.form, template=params.template, n_tasks=params.n_tasks, seed=params.seed
    )
    converted = convert(parts, recipe)
    tasks.write_bytes(FORMS[params.form].encode(converted.tasks))
    index.write_text(index_of(converted.tasks), encoding="utf-8")
    digests = tuple(digest(each.files) for each in parts)
    return report(params, converted, sources=digests, sha256=sha256_of(tasks))


def part(said: PartParams, source: Path) -> Part:
    """A source as rows to read.

    Raises:
        InputError: where it is another file than it must be, or holds none.

    """
    files = (source,) if source.is_file() else tuple(sorted(source.rglob(said.pattern or "*")))
    if not files:
        raise InputError(f"{said.label or 'the source'}: no file matches {said.pattern}")
    if said.sha256 is not None:
        refuse_other_content(source, digest(files), said.sha256)
    return Part(label=said.label, files=files, container=said.container, layout=said.layout)


def digest(files: Sequence[Path]) -> str:
    """The sha256 of a file; of several, over their names and digests."""
    if len(files) == 1:
        return sha256_of(files[0])
    lines = (f"{file.name}\0{sha256_of(file)}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def report(
    params: DatasetParams, converted: Converted, *, sources: tuple[str, ...], sha256: str
) -> DatasetResult:
    """What is said of the file."""
    return DatasetResult(
        name=params.name,
        form=params.form,
        template=params.template.name,
        template_version=params.template.version,
        n_asked=params.n_tasks,
        seed=params.seed,
        n_read=converted.n_read,
        n_chosen=len(converted.tasks),
        malformed=notes(converted.malformed),
        left_out=notes(converted.left_out),
        most_answers=max(len(task.answers) for task in converted.tasks),
        sources=sources,
        sha256=sha256,
        ids=tuple(task.id for task in converted.tasks),
    )


def notes(rows: Sequence[Named]) -> tuple[RowNote, ...]:
    return tuple(RowNote(row=row.row, why=row.why) for row in rows)


@click.command()
@click.option("--source", "sources", type=click.Path(path_type=Path), multiple=True)
@click.option("--params", required=True)
@click.option("--tasks", type=click.Path(path_type=Path), required=True)
@click.option("--index", type=click.Path(path_type=Path), required=True)
@click.option("--report", "report_file", type=click.Path(path_type=Path), required=True)
def main(
    sources: tuple[Path, ...], params: str, tasks: Path, index: Path, report_file: Path
) -> None:
    """Convert the sources of an evaluation set."""

    def work() -> str:
        asked = DatasetParams.model_validate_json(params)
        result = converted_files(asked, sources, tasks=tasks, index=index)
        report_file.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
        dropped = f", {len(result.malformed)} malformed" if result.malformed else ""
        return f"{result.n_chosen} tasks chosen of {result.n_read} rows{dropped}"

    sys.exit(own_tool.run(work))


STAGE = ToolStage(
    name="dataset",
    version=1,  # bump when argv or parse, or what a converter makes of a row, changes meaning
    tool=TOOL,
    made_by="pipeline",
    inputs=frozenset({source_name(0)}),
    optional_inputs=frozenset(source_name(at) for at in range(1, MOST_PARTS)),
    outputs={"tasks": "tasks.bin", "index": "index.jsonl", "report": "report.json"},
    params=DatasetParams,
    result=DatasetResult,
    lane="host",
    argv=argv,
    parse=parse,
    explain=own_tool.explain,
)

if __name__ == "__main__":
    main()
