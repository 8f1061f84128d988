"""The binary form that `llama-perplexity --multiple-choice` reads; little endian, no padding.

    uint32 n; uint32 position[n]     where each task begins, in bytes from the file's beginning
    n tasks: string question; answers mc1; answers mc2
    string: uint32 bytes, then these, UTF-8
    answers: uint32 m (at most 100); m strings; m int32 labels, of which 1 is right

mc1 holds the answers of which one is right. mc2 is read by the tool and not used: it is empty here,
and left alone in the files of others.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from llamacpp_pipeline.datasets.task import Task
from llamacpp_pipeline.errors import InputError

MOST_ANSWERS = 100
LARGEST = 2**32
NUMBER = struct.Struct("<I")


def refusal(task: Task) -> str | None:
    """Why this form cannot hold the task."""
    if len(task.answers) > MOST_ANSWERS:
        return f"{len(task.answers)} answers, where this form has at most {MOST_ANSWERS}"
    return None


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Answers with their labels: 1 is right."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]


NONE = Answers(texts=(), labels=())


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A task as it stands in the file."""

    question: str
    one_right: Answers  # mc1
    some_right: Answers = NONE  # mc2


def entry(task: Task) -> Entry:
    """A task in the words of the file."""
    labels = tuple(int(at == task.gold) for at in range(len(task.answers)))
    return Entry(question=task.question, one_right=Answers(texts=task.answers, labels=labels))


def encode(tasks: Sequence[Task]) -> bytes:
    """The file of these tasks, in their order.

    Raises:
        ValueError: where the form cannot hold one, or all of them.

    """
    for task in tasks:
        why = refusal(task)
        if why is not None:
            message = f"task {task.id}: {why}"
            raise ValueError(message)
    return encode_entries([entry(task) for task in tasks])


def encode_entries(entries: Sequence[Entry]) -> bytes:
    """The file of these entries, in their order.

    Raises:
        ValueError: where it would be larger than its positions can say.

    """
    bodies = [_string(e.question) + _answers(e.one_right) + _answers(e.some_right) for e in entries]
    start = NUMBER.size * (1 + len(bodies))
    positions = []
    for body in bodies:
        positions.append(start)
        start += len(body)
    if start > LARGEST:
        message = f"{start} bytes are more than the positions in this form can say"
        raise ValueError(message)
    head = struct.pack(f"<{1 + len(bodies)}I", len(bodies), *positions)
    return head + b"".join(bodies)


def decode(data: bytes) -> tuple[Task, ...]:
    """The tasks of a file; their ids are their numbers, from 1.

    Raises:
        InputError: where it has not this form, or a task has not one right answer.

    """
    return tuple(_task(e, number=at) for at, e in enumerate(decode_entries(data), start=1))


def decode_entries(data: bytes) -> tuple[Entry, ...]:
    """Everything that stands in a file.

    Raises:
        InputError: where it has not this form.

    """
    reader = _Reader(data)
    n_tasks = reader.number()
    if n_tasks == 0 or NUMBER.size * (1 + n_tasks) > len(data):
        raise _not_this_form(f"{n_tasks} tasks in {len(data)} bytes")
    positions = [reader.number() for _ in range(n_tasks)]
    entries = []
    for at, position in enumerate(positions, start=1):
        if position != reader.at:
            raise _not_this_form(f"task {at} begins at {reader.at}, its position says {position}")
        question, first = reader.string(), reader.answers()
        entries.append(Entry(question=question, one_right=first, some_right=reader.answers()))
    if reader.at != len(data):
        raise _not_this_form(f"{len(data) - reader.at} bytes after the last task")
    return tuple(entries)


def _task(entry: Entry, *, number: int) -> Task:
    right = [at for at, label in enumerate(entry.one_right.labels) if label == 1]
    if len(right) != 1:
        raise InputError(
            f"task {number} has {len(right)} right answers, where one is wanted",
            hint="correct the labels: 1 for the right answer, 0 for the others",
        )
    return Task(
        id=str(number), question=entry.question, answers=entry.one_right.texts, gold=right[0]
    )


def _string(text: str) -> bytes:
    encoded = text.encode()
    return NUMBER.pack(len(encoded)) + encoded


def _answers(answers: Answers) -> bytes:
    n = len(answers.texts)
    labels = struct.pack(f"<{n}i", *answers.labels)
    return NUMBER.pack(n) + b"".join(map(_string, answers.texts)) + labels


def _not_this_form(why: str) -> InputError:
    return InputError(
        "not a file of multiple-choice tasks",
        evidence=(why,),
        hint="check that the file is the binary one of `llama-perplexity --multiple-choice`",
    )


class _Reader:
    """Reads from the front; says where the file ends too early."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, n_bytes: int) -> bytes:
        found = self.data[self.at : self.at + n_bytes]
        if len(found) != n_bytes:
            raise _not_this_form(f"it ends at {len(self.data)}, within what begins at {self.at}")
        self.at += n_bytes
        return found

    def number(self) -> int:
        found: int = NUMBER.unpack(self.take(NUMBER.size))[0]
        return found

    def string(self) -> str:
        begin = self.at
        try:
            return self.take(self.number()).decode("utf-8")
        except UnicodeDecodeError as error:
            raise _not_this_form(f"the text at {begin} is not UTF-8") from error

    def answers(self) -> Answers:
        n = self.number()
        if n > MOST_ANSWERS:
            raise _not_this_form(f"{n} answers at {self.at - NUMBER.size}")
        texts = tuple(self.string() for _ in range(n))
        return Answers(texts=texts, labels=struct.unpack(f"<{n}i", self.take(4 * n)))
