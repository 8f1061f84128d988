"""A text that is published as a column of rows (Parquet, Arrow) to the plain text that is read."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
from pydantic import NonNegativeInt, PositiveInt, ValidationError

from llamacpp_pipeline.datasets.rows import Container, Row, rows_of
from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages import own_tool
from llamacpp_pipeline.stages.base import Argv, Frozen, Paths, ToolStage
from llamacpp_pipeline.stages.fetched_files import sha256_of
from llamacpp_pipeline.stages.llama_log import complaints

TOOL = "llamacpp_pipeline.stages.text"
SOURCE = "source"


class TextParams(Frozen):
    """Where the text stands. Rows are written one after the other, each ended by a line feed."""

    container: Container
    column: str | None = None  # None: the only column of texts


class TextResult(Frozen):
    column: str
    n_rows: PositiveInt  # written
    n_empty: NonNegativeInt  # without text, left out
    size_bytes: PositiveInt
    sha256: str


def argv(params: TextParams, paths: Paths) -> Argv:
    return (
        TOOL,
        *("--source", str(paths[SOURCE])),
        *("--params", params.model_dump_json()),
        *("--output", str(paths["text"])),
    )


def parse(log: str, paths: Paths) -> TextResult:
    try:
        result = TextResult.model_validate_json(own_tool.last_object(log) or "")
    except ValidationError as error:
        raise UnreadableOutputError(TOOL, "its word on the text", complaints(log)) from error
    if sha256_of(paths["text"]) != result.sha256:
        raise UnreadableOutputError(TOOL, "the text that it names", complaints(log))
    return result


def written(params: TextParams, source: Path, target: Path) -> TextResult:
    """Write the text of the rows.

    Raises:
        InputError: where the file cannot be read, or has not that one column of texts.

    """
    column, digest, counts = params.column, hashlib.sha256(), {True: 0, False: 0}
    with target.open("wb") as stream:
        for row in whole_rows(source, params.container):
            column = column or only_column(row)
            text = text_in(row, column)
            counts[bool(text)] += 1
            data = f"{text}\n".encode() if text else b""
            stream.write(data)
            digest.update(data)
    if column is None or not counts[True]:
        raise InputError(f"{source.name} has no text", hint="name another file or `column`")
    return TextResult(
        column=column,
        n_rows=counts[True],
        n_empty=counts[False],
        size_bytes=target.stat().st_size,
        sha256=digest.hexdigest(),
    )


def whole_rows(source: Path, container: Container) -> Iterator[Row]:
    """The rows of a file.

    Raises:
        InputError: where one is none.

    """
    for name, row in rows_of(source, container):
        if not isinstance(row, Mapping):
            raise InputError(f"{source.name}: {name} is no row of columns")
        yield row


def only_column(row: Row) -> str:
    """The one column that holds text.

    Raises:
        InputError: where there is none, or are several.

    """
    found = [name for name, value in row.items() if isinstance(value, str)]
    if len(found) != 1:
        raise InputError(
            f"{len(found)} columns hold text, where one is wanted",
            evidence=(f"columns: {', '.join(row)}",),
            hint="say which with `column`",
        )
    return found[0]


def text_in(row: Row, column: str) -> str:
    """The text in a column; nothing where the row has none.

    Raises:
        InputError: where there is no such column of texts.

    """
    if column not in row or not isinstance(row[column], (str, type(None))):
        raise InputError(
            f"there is no column of texts named {column}",
            evidence=(f"columns: {', '.join(row)}",),
            hint="correct `column`",
        )
    return row[column] or ""


@click.command()
@click.option("--source", type=click.Path(path_type=Path), required=True)
@click.option("--params", required=True)
@click.option("--output", type=click.Path(path_type=Path), required=True)
def main(source: Path, params: str, output: Path) -> None:
    """Write a column of texts as one text."""
    asked = TextParams.model_validate_json(params)
    sys.exit(own_tool.run(lambda: written(asked, source, output).model_dump_json()))


STAGE = ToolStage(
    name="text",
    version=1,  # bump when argv or parse changes meaning
    tool=TOOL,
    made_by="pipeline",
    inputs=frozenset({SOURCE}),
    outputs={"text": "text.txt"},
    params=TextParams,
    result=TextResult,
    argv=argv,
    parse=parse,
    explain=own_tool.explain,
)

if __name__ == "__main__":
    main()
