"""One task of an evaluation set: a question, its answers, and which of them is right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Form = Literal["hellaswag", "winogrande", "multiple-choice"]
LEAST = 2  # answers


@dataclass(frozen=True, kw_only=True)
class Task:
    """What llama-perplexity scores: the answer that is most likely after the question.

    In the form "winogrande" the question is the sentence with its gap `_`, and the answers are
    the two words for it.
    """

    id: str  # in the source; unique in the set
    question: str
    answers: tuple[str, ...]
    gold: int  # position of the right answer, from 0


def refusal(task: Task) -> str | None:
    """Why no form can hold the task, or its score would mean nothing; None: it is sound."""
    if not task.question.strip():
        return "the question is empty"
    if len(task.answers) < LEAST:
        return "fewer than two answers"
    if not all(answer.strip() for answer in task.answers):
        return "an answer is empty"
    if not 0 <= task.gold < len(task.answers):
        return f"the right answer is number {task.gold}, of {len(task.answers)} counted from 0"
    return _ambiguity(task.answers, task.answers[task.gold])


def _ambiguity(answers: tuple[str, ...], right: str) -> str | None:
    """Why the answers cannot be told apart.

    The tool scores what differs: where one answer begins all the others, nothing is left of it.
    """
    if answers.count(right) > 1:
        return "the right answer stands there twice"
    shortest = min(answers, key=len)
    if all(answer.startswith(shortest) for answer in answers):
        return "one answer is the beginning of all the others"
    return None
