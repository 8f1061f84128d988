"""Published files of a set to the file of its chosen tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llamacpp_pipeline.datasets.forms import FORMS
from llamacpp_pipeline.datasets.layouts import (
    Layout,
    LeftOutError,
    MalformedRowError,
    Question,
    question_of,
)
from llamacpp_pipeline.datasets.rows import Container, Row, rows_of
from llamacpp_pipeline.datasets.subset import chosen
from llamacpp_pipeline.datasets.task import Form, Task, refusal
from llamacpp_pipeline.datasets.templates import Template
from llamacpp_pipeline.errors import InputError

ENOUGH = 0.5  # with fewer sound rows than this share, it is the format that is wrong
SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Part:
    """Published rows: one file, or the files of a folder that match a pattern."""

    label: str  # "" where the set has one part; else before each id
    files: tuple[Path, ...]
    container: Container
    layout: Layout


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What becomes of the rows."""

    form: Form
    template: Template
    n_tasks: int | None  # None: all
    seed: int


@dataclass(frozen=True, kw_only=True)
class Named:
    """A row that is not in the set, and why."""

    row: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Converted:
    """The chosen tasks in the order of the file, and what became of the other rows."""

    tasks: tuple[Task, ...]
    n_read: int
    malformed: tuple[Named, ...]
    left_out: tuple[Named, ...]


def convert(parts: Sequence[Part], recipe: Recipe) -> Converted:
    """Read, check, choose.

    Raises:
        InputError: where a file cannot be read, or most of its rows are not what they should be.

    """
    reader = _Reader(recipe)
    for part in parts:
        reader.read(part)
    _refuse_wrong_format(reader)
    tasks = chosen(reader.tasks, n_tasks=recipe.n_tasks, seed=recipe.seed)
    return Converted(
        tasks=tasks,
        n_read=reader.n_read,
        malformed=tuple(reader.malformed),
        left_out=tuple(reader.left_out),
    )


class _Reader:
    """Rows to tasks, with a note of each row that is none."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.tasks: list[Task] = []
        self.malformed: list[Named] = []
        self.left_out: list[Named] = []
        self.ids: set[str] = set()
        self.n_read = 0

    def read(self, part: Part) -> None:
        """All rows of a part."""
        for file, name in zip(part.files, _names(part.files), strict=True):
            before = "".join(f"{label}:" for label in (part.label, name) if label)
            for row_name, row in rows_of(file, part.container):
                self.n_read += 1
                self.note(row, name=row_name, before=before, layout=part.layout)

    def note(self, row: Row | Task | str, *, name: str, before: str, layout: Layout) -> None:
        """A row among the tasks, or among those that are none."""
        try:
            asked = _question(row, layout)
            own = asked.id or name.rpartition(" ")[2]
            self.take(self.worded(asked, task_id=f"{before}{own}"))
        except MalformedRowError as error:
            self.malformed.append(Named(row=f"{before}{name}", why=str(error)))
        except LeftOutError as error:
            self.left_out.append(Named(row=f"{before}{name}", why=str(error)))

    def worded(self, asked: Question, *, task_id: str) -> Task:
        """A question in the template's words."""
        template = self.recipe.template
        return Task(
            id=task_id,
            question=template.filled_question(asked),
            answers=tuple(template.filled_answer(asked, answer) for answer in asked.answers),
            gold=asked.gold,
        )

    def take(self, task: Task) -> None:
        """Keep a sound task.

        Raises:
            MalformedRowError: where it is none.

        """
        why = refusal(task) or FORMS[self.recipe.form].refusal(task)
        if why is None and task.id in self.ids:
            why = f"a second row of id {task.id}"
        if why is not None:
            raise MalformedRowError(why)
        self.ids.add(task.id)
        self.tasks.append(task)


def _names(files: Sequence[Path]) -> list[str]:
    """What tells several files apart: the last parts of their paths, as few as are needed."""
    if len(files) == 1:
        return [""]
    paths = [file.with_suffix("").parts for file in files]
    for depth in range(1, max(map(len, paths))):
        names = ["/".join(path[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(number) for number, _ in enumerate(files, start=1)]


def _question(row: Row | Task | str, layout: Layout) -> Question:
    if isinstance(row, str):
        raise MalformedRowError(row)
    if isinstance(row, Task):
        return Question(id=None, question=row.question, answers=row.answers, gold=row.gold)
    return question_of(row, layout)


def _refuse_wrong_format(reader: _Reader) -> None:
    """Refuse a file of another format, of which each row is malformed in its own way.

    Raises:
        InputError: naming the first rows.

    """
    sound = reader.n_read - len(reader.malformed)
    if reader.tasks and sound >= ENOUGH * reader.n_read:
        return
    raise InputError(
        f"{len(reader.malformed)} of {reader.n_read} rows are malformed: is it another format?",
        evidence=[f"{row.row}: {row.why}" for row in reader.malformed[:SHOWN]],
        hint="say what the file is with `layout` and `container`",
    )
