"""The known word that a misspelt one is near to."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`: did you mean Q4_K_M?`, or nothing where no known word is near."""
    words = {word_known.casefold(): word_known for word_known in known}
    near = get_close_matches(word.casefold(), words, n=1, cutoff=0.6)
    return f": did you mean {words[near[0]]}?" if near else ""
