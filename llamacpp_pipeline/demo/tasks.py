"""Evaluation sets made of the demo text's evaluation part, which the demo model never saw.

Each is JSON lines of id, question, answers and gold, one for each form that llama-perplexity
reads. Wrong answers are made of the same passage's own words, so that what tells them apart is how
well the model knows the language, not how common a word is. No two tasks of a set share a word of
the text. The same Python gives the same sets.
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

DemoSet = Literal["passages", "names", "words"]
SETS: Final[tuple[DemoSet, ...]] = get_args(DemoSet)

_BEFORE: Final = 8  # words of a question
_ENDING: Final = 6  # words of an ending in ``passages``
_AFTER_GAP: Final = 5
_AFTER_WORD: Final = 2
_WRONG: Final = 3
_WORD: Final = re.compile(r"[A-Za-z]{2,}")  # what may be asked for
_GAP: Final = "_"

_Task = dict[str, object]


@cache
def demo_tasks(name: DemoSet) -> str:
    """Return a set as JSON lines.

    ``passages``: how a passage goes on: its next six words, or these with two neighbours swapped
    (four answers). ``names``: which of two words of a sentence stands in its gap ``_``. ``words``:
    which word comes next, and two more after it (four answers).
    """
    makers = {"passages": _passages, "names": _names, "words": _words}
    lines = (json.dumps({"id": f"{name}-{number}", **task}) for number, task in makers[name]())
    return "".join(f"{line}\n" for line in lines)


def _passages() -> Iterator[tuple[int, _Task]]:
    for number, words in _windows(_BEFORE + _ENDING):
        question, ending = " ".join(words[:_BEFORE]), words[_BEFORE:]
        swapped = (
            [*ending[:at], ending[at + 1], ending[at], *ending[at + 2 :]]
            for at in range(len(ending) - 1)
        )
        yield from _task(number, question, [" ".join(each) for each in (ending, *swapped)], _WRONG)


def _names() -> Iterator[tuple[int, _Task]]:
    for number, words in _windows(_BEFORE + 1 + _AFTER_GAP):
        before, right, after = words[:_BEFORE], words[_BEFORE], words[_BEFORE + 1 :]
        if _WORD.fullmatch(right) and not any(_GAP in word for word in words):
            question = " ".join((*before, _GAP, *after))
            yield from _task(number, question, [right, *filter(_WORD.fullmatch, before)], 1)


def _words() -> Iterator[tuple[int, _Task]]:
    for number, words in _windows(_BEFORE + 1 + _AFTER_WORD):
        before, right, after = words[:_BEFORE], words[_BEFORE], words[_BEFORE + 1 :]
        if _WORD.fullmatch(right):
            others = (word for word in before[:-1] if _WORD.fullmatch(word))
            answers = [" ".join((word, *after)) for word in (right, *others)]
            yield from _task(number, " ".join(before), answers, _WRONG)


def _windows(n_words: int) -> Iterator[tuple[int, list[str]]]:
    """Yield passages that do not overlap, numbered in the order of the text."""
    found = (
        words[at : at + n_words]
        for entry in evaluation_entries()
        for paragraph in entry.paragraphs
        for words in [paragraph.split()]
        for at in range(0, len(words) - n_words + 1, n_words)
    )
    yield from enumerate(found, start=1)


def _task(
    number: int, question: str, answers: Sequence[str], n_wrong: int
) -> Iterator[tuple[int, _Task]]:
    """Yield the task whose right answer comes first in `answers`, where enough others differ."""
    right, *others = answers
    wrong = [other for other in dict.fromkeys(others) if other != right]
    if len(wrong) >= n_wrong:
        shown = _drawn(f"order of {question}", [right, *_drawn(question, wrong)[:n_wrong]])
        yield number, {"question": question, "answers": shown, "gold": shown.index(right)}


def _drawn(seed: str, texts: Sequence[str]) -> list[str]:
    """Return the texts in an order that depends on the seed and on them alone."""
    return sorted(texts, key=lambda text: hashlib.sha256(f"{seed}\0{text}".encode()).digest())
