"""Published files as rows: JSON lines, JSON, CSV, Parquet, Arrow; and the tools' own forms."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from llamacpp_pipeline.datasets import choice_file, hellaswag_text, winogrande_csv
from llamacpp_pipeline.datasets.task import Task
from llamacpp_pipeline.errors import InputError

Container = Literal[
    "jsonl", "json", "csv", "parquet", "arrow", "six-line", "winogrande-csv", "choice-file"
]
Row = Mapping[str, Any]
COLUMNAR: tuple[Container, ...] = ("parquet", "arrow")
READY: tuple[Container, ...] = ("six-line", "winogrande-csv", "choice-file")
SUFFIXES: Mapping[str, Container] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".bin": "choice-file",
    ".txt": "six-line",
}
PYARROW_HINT = "pip install 'llamacpp-pipeline[parquet]'"


def container_of(name: str) -> Container | None:
    """The container that a file's name tells of, if it does."""
    return SUFFIXES.get(Path(name).suffix.lower())


def has_pyarrow() -> bool:
    """Whether the columnar containers can be read here."""
    return find_spec("pyarrow") is not None


def rows_of(path: Path, container: Container) -> Iterator[tuple[str, Row | Task | str]]:
    """Each row with its name: its columns, a task that is one already, or why it is unreadable.

    Raises:
        InputError: where the file as a whole cannot be read.

    """
    if container in COLUMNAR and not has_pyarrow():
        raise InputError(f"{path.name}: reading {container} needs pyarrow", hint=PYARROW_HINT)
    try:
        yield from READERS[container](path)
    except InputError as error:
        evidence = error.evidence
        raise InputError(
            f"{path.name}: {error.message}", evidence=evidence, hint=error.hint
        ) from error
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(
            f"{path.name} cannot be read as {container}",
            evidence=(f"{type(error).__name__}: {error}",),
            hint="check the file, or say what it is with `container`",
        ) from error


Named = Iterator[tuple[str, Row | Task | str]]


def _json_lines(path: Path) -> Named:
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if line.strip():
            yield f"line {number}", _json_row(line)


def _json_row(line: str) -> Row | str:
    try:
        row = json.loads(line)
    except ValueError as error:
        return f"not JSON: {error}"
    return row if isinstance(row, dict) else "not a JSON object"


def _json(path: Path) -> Named:
    rows = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(rows, list):
        raise InputError("not a JSON list of rows", hint="a list of objects is wanted")
    for number, row in enumerate(rows, start=1):
        yield f"row {number}", row if isinstance(row, dict) else "not a JSON object"


def _csv(path: Path) -> Named:
    stream = io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")
    reader = csv.DictReader(stream, strict=True)
    for number, row in enumerate(reader, start=1):
        whole = None not in row and None not in row.values()
        yield f"row {number}", row if whole else "another number of fields than the header has"


def _parquet(path: Path) -> Named:
    from pyarrow import parquet  # noqa: PLC0415  an extra

    yield from _batches(parquet.ParquetFile(path).iter_batches())


def _arrow(path: Path) -> Named:
    from pyarrow import ipc  # noqa: PLC0415  an extra

    with path.open("rb") as stream:
        yield from _batches(ipc.open_stream(stream))


def _batches(batches: Any) -> Named:  # noqa: ANN401  pyarrow has no types
    rows = (row for batch in batches for row in batch.to_pylist())
    for number, row in enumerate(rows, start=1):
        yield f"row {number}", row


def _six_line(path: Path) -> Named:
    for task in hellaswag_text.decode(path.read_bytes()):
        yield f"task {task.id}", task


def _winogrande(path: Path) -> Named:
    for number, read in enumerate(winogrande_csv.decode(path.read_bytes()), start=1):
        yield f"line {number}", read


def _choice_file(path: Path) -> Named:
    for task in choice_file.decode(path.read_bytes()):
        yield f"task {task.id}", task


READERS: Mapping[Container, Callable[[Path], Named]] = {
    "jsonl": _json_lines,
    "json": _json,
    "csv": _csv,
    "parquet": _parquet,
    "arrow": _arrow,
    "six-line": _six_line,
    "winogrande-csv": _winogrande,
    "choice-file": _choice_file,
}
