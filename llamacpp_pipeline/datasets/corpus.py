"""Texts that everybody measures on, known by their content: what a plan can say before fetching."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class KnownCorpus:
    """A published text."""

    title: str
    size_bytes: int


CORPORA: Mapping[str, KnownCorpus] = {  # by sha256
    "4f3e427e4aff23acff917a8a51aeae21bf12832256e26914c8fc250dcef4103c": KnownCorpus(
        title="WikiText-2 raw, test split", size_bytes=1_290_547
    ),
}


def known_corpus(sha256: str | None) -> KnownCorpus | None:
    """The published text of a digest, where it is one."""
    return None if sha256 is None else CORPORA.get(sha256)
