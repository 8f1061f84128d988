"""What is known of each task of a converted file, in the file's order, without its text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError

from llamacpp_pipeline.datasets.task import Task
from llamacpp_pipeline.errors import InputError


class IndexEntry(BaseModel):
    """One task. No text: of some sets it must not be passed on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str  # in the source
    gold: NonNegativeInt  # position of the right answer, from 0
    n_answers: PositiveInt


def index_of(tasks: Sequence[Task]) -> str:
    """The index as JSON lines."""
    entries = (IndexEntry(id=t.id, gold=t.gold, n_answers=len(t.answers)) for t in tasks)
    return "".join(f"{entry.model_dump_json()}\n" for entry in entries)


def read_index(path: Path) -> tuple[IndexEntry, ...]:
    """The index that a dataset step left.

    Raises:
        InputError: where it cannot be read.

    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return tuple(IndexEntry.model_validate_json(line) for line in lines)
    except (OSError, ValidationError) as error:
        raise InputError(
            f"{path.name}: not the index of a dataset step", evidence=(str(error),)
        ) from error
