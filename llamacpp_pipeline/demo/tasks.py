"""Evaluation sets made of the demo text's evaluation part, which the demo model never saw.

Each is JSON lines of id, question, answers and gold, one for each form that llama-perplexity
reads. Wrong answers are the right answers of other tasks, drawn by hash, so that no answer gives
itself away by its kind. The same Python gives the same sets.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from typing import TYPE_CHECKING, Final, Literal, get_args

from llamacpp_pipeline.demo.text import evaluation_entries

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DemoSet = Literal["passages", "names", "docstrings"]
SETS: Final[tuple[DemoSet, ...]] = get_args(DemoSet)

_CONTEXT_WORDS: Final = 16
_ENDING_WORDS: Final = 8
_BEFORE_GAP: Final = 10
_AFTER_GAP: Final = 6
_FEWEST_WORDS: Final = 4
_MOST_WORDS: Final = 30
_WRONG: Final = 3
_WORD: Final = re.compile(r"[A-Za-z]{4,}")  # what may stand in a gap


@cache
def demo_tasks(name: DemoSet) -> str:
    """Return a set as JSON lines.

    ``passages`` (four endings each): which eight words go on a passage.
    ``names`` (two choices each): which word stands in the gap ``_`` of a passage.
    ``docstrings`` (four answers each): which first paragraph documents a declaration.
    """
    makers = {"passages": _passages, "names": _names, "docstrings": _docstrings}
    found = list(makers[name]())
    lines = (
        json.dumps({"id": f"{name}-{number}", **task}, ensure_ascii=False)
        for number, task in enumerate(found, start=1)
    )
    return "".join(f"{line}\n" for line in lines)


_Task = dict[str, object]


def _passages() -> Iterator[_Task]:
    size = _CONTEXT_WORDS + _ENDING_WORDS
    windows = [words for words in _windows(size) if "_" not in words]
    questions = [" ".join(words[:_CONTEXT_WORDS]) for words in windows]
    endings = [" ".join(words[_CONTEXT_WORDS:]) for words in windows]
    return _tasks(questions, endings, n_wrong=_WRONG)


def _names() -> Iterator[_Task]:
    size = _BEFORE_GAP + 1 + _AFTER_GAP
    windows = [
        words
        for words in _windows(size)
        if _WORD.fullmatch(words[_BEFORE_GAP]) and not any("_" in word for word in words)
    ]
    sentences = [
        " ".join([*words[:_BEFORE_GAP], "_", *words[_BEFORE_GAP + 1 :]]) for words in windows
    ]
    return _tasks(sentences, [words[_BEFORE_GAP] for words in windows], n_wrong=1)


def _docstrings() -> Iterator[_Task]:
    seen: dict[str, str] = {}
    for entry in evaluation_entries():
        answer = " ".join(entry.paragraphs[0].split())
        if entry.declaration and _FEWEST_WORDS <= len(answer.split()) <= _MOST_WORDS:
            seen.setdefault(entry.declaration, answer)
    # The tool puts a space between the two: with these three the docstring is indented by four.
    questions = [f"{declaration}\n   " for declaration in seen]
    return _tasks(questions, list(seen.values()), n_wrong=_WRONG)


def _windows(n_words: int) -> Iterator[list[str]]:
    """Yield the words of passages that do not overlap, in the order of the text."""
    for entry in evaluation_entries():
        for paragraph in entry.paragraphs:
            words = paragraph.split()
            for at in range(0, len(words) - n_words + 1, n_words):
                yield words[at : at + n_words]


def _tasks(questions: Sequence[str], right: Sequence[str], *, n_wrong: int) -> Iterator[_Task]:
    for question, answer in zip(questions, right, strict=True):
        wrong = _drawn(question, [other for other in dict.fromkeys(right) if other != answer])
        answers = [answer, *wrong[:n_wrong]]
        answers = _drawn(f"order of {question}", answers)
        yield {"question": question, "answers": answers, "gold": answers.index(answer)}


def _drawn(seed: str, texts: Sequence[str]) -> list[str]:
    """Return the texts in an order that depends on the seed and on them alone."""
    return sorted(texts, key=lambda text: hashlib.sha256(f"{seed}\0{text}".encode()).digest())
