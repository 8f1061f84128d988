"""How much of a text occurs in another one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

PASSAGE = 12  # words in a row: shorter ones meet by chance
WORD = re.compile(r"\w+")


def shared_share(text: str, others: Iterable[str]) -> float:
    """The share of the text's words that stand in a passage which one of the others has too.

    A passage is 12 words in a row, case and punctuation ignored. 0 for a text of fewer words.
    """
    words = words_of(text)
    known = {passage for other in others for passage in passages(words_of(other))}
    covered = bytearray(len(words))
    for at, passage in enumerate(passages(words)):
        if passage in known:
            covered[at : at + PASSAGE] = b"\1" * PASSAGE
    return sum(covered) / len(words) if words else 0.0


def words_of(text: str) -> list[str]:
    """In order, in lower case."""
    return WORD.findall(text.casefold())


def passages(words: list[str]) -> Iterator[int]:
    """Each by its hash."""
    return (hash(tuple(words[at : at + PASSAGE])) for at in range(len(words) - PASSAGE + 1))
