"""The columns of published sets, and how a row of each becomes a question with its answers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from llamacpp_pipeline.datasets.rows import Row

Layout = Literal[
    "task", "hellaswag", "winogrande", "arc", "mmlu", "mmlu-redux", "truthfulqa-mc1", "gpqa"
]
ARTICLE_MARK = re.compile(r"\s*\[title\]")
BRACKETED = re.compile(r"\[.*?\]")
SPACES = re.compile(r" {2,}")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class MalformedRowError(ValueError):
    """Why a row is no task."""


class LeftOutError(ValueError):
    """Why a sound row is not part of the set: its publisher says that it is wrong."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A row before its template: the texts as published."""

    id: str | None  # None: the source has none
    question: str
    answers: tuple[str, ...]
    gold: int
    subject: str = ""


def question_of(row: Row, layout: Layout) -> Question:
    """A row of a published set.

    Raises:
        MalformedRowError: where something is missing or not what it must be.
        LeftOutError: where the publisher says that the row is wrong.

    """
    return LAYOUTS[layout](row)


def _task(row: Row) -> Question:
    return Question(
        id=_id(row, "id"),
        question=_text(row, "question"),
        answers=_texts(_column(row, "answers")),
        gold=_number(_column(row, "gold")),
        subject=str(row.get("subject") or ""),
    )


def _hellaswag(row: Row) -> Question:
    label = _text(row, "activity_label")
    context = row["ctx"] if isinstance(row.get("ctx"), str) else _two_contexts(row)
    return Question(
        id=_id(row, "ind"),
        question=how_to(f"{label}: {context}"),
        answers=tuple(how_to(ending) for ending in _texts(_column(row, "endings"))),
        gold=_number(_column(row, "label")),
    )


def _two_contexts(row: Row) -> str:
    second = _text(row, "ctx_b")
    return f"{_text(row, 'ctx_a')} {second[:1].upper()}{second[1:]}"


def how_to(text: str) -> str:
    """A text of HellaSwag without WikiHow's marks: [title] ends a sentence, the others go."""
    text = ARTICLE_MARK.sub(".", text.strip())
    return SPACES.sub(" ", BRACKETED.sub("", text)).strip()


def _winogrande(row: Row) -> Question:
    return Question(
        id=_id(row, "qID"),
        question=_text(row, "sentence"),
        answers=(_text(row, "option1"), _text(row, "option2")),
        gold=_number(_column(row, "answer")) - 1,
    )


def _arc(row: Row) -> Question:
    asked = _column(row, "question")
    nested = asked if isinstance(asked, dict) else row  # the publisher's own lines; the Hub's
    labels, texts = _labelled(_column(nested, "choices"))
    key = str(_column(row, "answerKey"))
    if key not in labels:
        raise MalformedRowError("`answerKey` is none of the labels")
    return Question(
        id=_id(row, "id"),
        question=_text(nested, "stem" if nested is asked else "question"),
        answers=texts,
        gold=labels.index(key),
    )


def _labelled(choices: object) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Labels and texts of {text: [...], label: [...]} or [{text: ..., label: ...}, ...]."""
    if isinstance(choices, dict):
        labels, texts = _texts(choices.get("label")), _texts(choices.get("text"))
    elif isinstance(choices, list) and all(isinstance(each, dict) for each in choices):
        labels = _texts([each.get("label") for each in choices])
        texts = _texts([each.get("text") for each in choices])
    else:
        raise MalformedRowError("`choices` has neither `text` nor `label`")
    if len(labels) != len(texts):
        raise MalformedRowError(f"{len(texts)} choices and {len(labels)} labels")
    return labels, texts


def _mmlu(row: Row) -> Question:
    answer = _column(row, "answer")
    letter = isinstance(answer, str) and len(answer) == 1 and answer in LETTERS
    return Question(
        id=None,
        question=_text(row, "question"),
        answers=_texts(_column(row, "choices")),
        gold=LETTERS.index(answer) if letter else _number(answer),
        subject=str(row.get("subject") or "").replace("_", " "),
    )


def _mmlu_redux(row: Row) -> Question:
    verdict = _text(row, "error_type")
    if verdict != "ok":
        raise LeftOutError(f"error_type {verdict}")
    return _mmlu(row)


def _truthfulqa(row: Row) -> Question:
    targets = _column(row, "mc1_targets")
    if isinstance(targets, dict) and set(targets) == {"choices", "labels"}:  # the Hub's columns
        answers, labels = _texts(targets["choices"]), [_number(n) for n in targets["labels"]]
    elif isinstance(targets, dict):
        answers, labels = tuple(targets), [_number(label) for label in targets.values()]
    else:
        raise MalformedRowError("`mc1_targets` is no mapping of answers to labels")
    if labels.count(1) != 1 or len(labels) != len(answers):
        raise MalformedRowError(f"{labels.count(1)} right answers, where one is wanted")
    return _mixed(
        Question(id=None, question=_text(row, "question"), answers=answers, gold=labels.index(1))
    )


def _gpqa(row: Row) -> Question:
    wrong = (_text(row, f"Incorrect Answer {number}").strip() for number in (1, 2, 3))
    return _mixed(
        Question(
            id=_id(row, "Record ID"),
            question=_text(row, "Question").strip(),
            answers=(_text(row, "Correct Answer").strip(), *wrong),
            gold=0,
            subject=str(row.get("Subdomain") or ""),
        )
    )


def _mixed(asked: Question) -> Question:
    """The answers in an order by hash, where as published the right one is always the first.

    The tool takes the first of equal answers, and of answers that are no numbers.
    """
    right = asked.answers[asked.gold]
    answers = tuple(sorted(asked.answers, key=lambda text: _hash(f"{asked.question}\0{text}")))
    return replace(asked, answers=answers, gold=answers.index(right))


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


LAYOUTS: Mapping[Layout, Callable[[Row], Question]] = {
    "task": _task,
    "hellaswag": _hellaswag,
    "winogrande": _winogrande,
    "arc": _arc,
    "mmlu": _mmlu,
    "mmlu-redux": _mmlu_redux,
    "truthfulqa-mc1": _truthfulqa,
    "gpqa": _gpqa,
}


def _column(row: Row, name: str) -> Any:  # noqa: ANN401  any JSON value
    if row.get(name) is None:
        raise MalformedRowError(f"no `{name}`")
    return row[name]


def _id(row: Row, name: str) -> str | None:
    value = row.get(name)
    return None if value is None or value == "" else str(value)


def _text(row: Row, name: str) -> str:
    value = _column(row, name)
    if not isinstance(value, str):
        raise MalformedRowError(f"`{name}` is no text")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(each, str) for each in value):
        raise MalformedRowError("the answers are no list of texts")
    return tuple(value)


def _number(value: object) -> int:
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise MalformedRowError("what says which answer is right is no number")
