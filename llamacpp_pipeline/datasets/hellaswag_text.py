"""The form that `llama-perplexity --hellaswag` reads: six lines a task.

The context, the position of the right ending (from 0), four endings. The file ends with a line
feed, so it is to be passed as a binary file, of which the tool cuts nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from llamacpp_pipeline.datasets.task import Task
from llamacpp_pipeline.errors import InputError

LINES = 6
ENDINGS = 4
BREAKS = "\n\r"


def refusal(task: Task) -> str | None:
    """Why this form cannot hold the task."""
    if len(task.answers) != ENDINGS:
        return f"{len(task.answers)} endings, where this form has {ENDINGS}"
    if any(mark in text for text in (task.question, *task.answers) for mark in BREAKS):
        return "a line break in the context or an ending"
    return None


def encode(tasks: Sequence[Task]) -> bytes:
    """The file of these tasks, in their order.

    Raises:
        ValueError: where the form cannot hold one.

    """
    lines: list[str] = []
    for task in tasks:
        why = refusal(task)
        if why is not None:
            message = f"task {task.id}: {why}"
            raise ValueError(message)
        lines += [task.question, str(task.gold), *task.answers]
    return "".join(f"{line}\n" for line in lines).encode()


def decode(data: bytes) -> tuple[Task, ...]:
    """The tasks of a file; their ids are their numbers, from 1.

    Raises:
        InputError: where it has not this form.

    """
    lines = text_of(data).removesuffix("\n").split("\n") if data else []
    if not lines or len(lines) % LINES:
        raise InputError(
            f"not in the six-line form: {len(lines)} lines are not whole tasks",
            hint="a task is six lines: context, number of the right ending, four endings",
        )
    blocks = (lines[at : at + LINES] for at in range(0, len(lines), LINES))
    return tuple(task_of(block, number=number) for number, block in enumerate(blocks, start=1))


def text_of(data: bytes) -> str:
    """The file as text.

    Raises:
        InputError: where it is not UTF-8, or has the line ends of another system.

    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError("not UTF-8 text", evidence=(str(error),)) from error
    if "\r" in text:
        raise InputError(
            "the file has carriage returns, which the tool would score as text",
            hint="write it with line feeds only (dos2unix)",
        )
    return text


def task_of(lines: Sequence[str], *, number: int) -> Task:
    """One task of six lines.

    Raises:
        InputError: where the second is not a number from 0 to 3.

    """
    question, gold, *answers = lines
    if gold not in {str(at) for at in range(ENDINGS)}:
        raise InputError(
            f"task {number}: its second line is not the number of an ending",
            evidence=(f"line {(number - 1) * LINES + 2}: {gold[:60]!r}",),
            hint="the second line of a task is 0, 1, 2 or 3",
        )
    return Task(id=str(number), question=question, answers=tuple(answers), gold=int(gold))
