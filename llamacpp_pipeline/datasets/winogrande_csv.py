"""The form that `llama-perplexity --winogrande` reads: comma-separated lines without a header.

`index,sentence,choice 1,choice 2,answer`, with one `_` in the sentence and the answer 1 or 2. It is
not the CSV of others: a quotation mark anywhere only hides commas up to the next one, quotes are
never undone, and choices are never quoted. A last line without its line feed is lost, so the file
ends with one and is to be passed as a binary file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from llamacpp_pipeline.datasets.task import Task
from llamacpp_pipeline.errors import InputError

GAP = "_"
COMMAS = 4
CHOICES = 2
BREAKS = "\n\r"
NUMBER = re.compile(r"\s*([12])(?!\d)")


def refusal(task: Task) -> str | None:
    """Why this form cannot hold the task."""
    if len(task.answers) != CHOICES:
        return f"{len(task.answers)} choices, where this form has {CHOICES}"
    if task.question.count(GAP) != 1:
        return f"{task.question.count(GAP)} gaps `{GAP}` in the sentence, where one is wanted"
    if any(mark in text for text in (task.question, *task.answers) for mark in BREAKS):
        return "a line break in the sentence or a choice"
    if written(task, index=0) is None:
        return "commas and quotation marks that this form cannot hold"
    return None


def encode(tasks: Sequence[Task]) -> bytes:
    """The file of these tasks, in their order.

    Raises:
        ValueError: where the form cannot hold one.

    """
    lines = []
    for index, task in enumerate(tasks):
        why = refusal(task)
        if why is not None:
            message = f"task {task.id}: {why}"
            raise ValueError(message)
        lines.append(f"{written(task, index=index)}\n")
    return "".join(lines).encode()


def written(task: Task, *, index: int) -> str | None:
    """The task's line: bare where the tool reads it back so, else in quotes, else none."""
    end = f",{task.answers[0]},{task.answers[1]},{task.gold + 1}"
    for sentence in (task.question, f'"{task.question}"'):
        line = f"{index},{sentence}{end}"
        read = read_line(line)
        if read is not None and (read.question, read.answers, read.gold) == (
            task.question,
            task.answers,
            task.gold,
        ):
            return line
    return None


def decode(data: bytes) -> tuple[Task | str, ...]:
    """Each line as a task, or as the reason why it is none. A task's id is its index.

    Raises:
        InputError: where it is not text.

    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError("not UTF-8 text", evidence=(str(error),)) from error
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    return tuple(read_line(line) or why_not(line) for line in lines)


def read_line(line: str) -> Task | None:
    """A line as the tool reads it; None where it would skip it."""
    commas = commas_of(line)
    if len(commas) != COMMAS:
        return None
    first, second, third, fourth = commas
    sentence = line[first + 1 : second]
    if sentence.startswith('"'):
        sentence = sentence[1:-1]
    answer = NUMBER.match(line[fourth + 1 :])
    if GAP not in sentence or answer is None:
        return None
    choices = (line[second + 1 : third], line[third + 1 : fourth])
    return Task(id=line[:first], question=sentence, answers=choices, gold=int(answer[1]) - 1)


def commas_of(line: str) -> list[int]:
    """Where the first four commas stand that no quotation marks hide."""
    found: list[int] = []
    hidden = False
    for at, mark in enumerate(line):
        if mark == '"':
            hidden = not hidden
        elif mark == "," and not hidden:
            found.append(at)
            if len(found) == COMMAS:
                break
    return found


def why_not(line: str) -> str:
    """Why the tool would skip a line."""
    if len(commas_of(line)) != COMMAS:
        return "not five fields divided by commas"
    return f"no gap `{GAP}` in the sentence, or an answer that is neither 1 nor 2"
