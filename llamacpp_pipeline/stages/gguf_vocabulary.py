"""The vocabulary that a GGUF carries: arrays of its metadata that `gguf_facts` passes over."""

from __future__ import annotations

from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path

from gguf import GGUFValueType

from llamacpp_pipeline.errors import InputError
from llamacpp_pipeline.stages.gguf_facts import Header, Value, read_gguf

TOKENS = "tokenizer.ggml.tokens"
MERGES = "tokenizer.ggml.merges"


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The tokens by their ids, and the merges in their order; empty where the file has none."""

    tokens: tuple[bytes, ...]
    merges: tuple[bytes, ...]


def read_vocabulary(path: Path) -> Vocabulary:
    """The vocabulary in a file's header.

    Raises:
        InputError: where the file is absent, not a GGUF, cut short, or of an unknown layout.

    """
    read_gguf(path)  # refuses what is not whole, with its own words
    with path.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as data:
        header = _Texts(data, path)
        header.facts(path.stat().st_size)
        return Vocabulary(
            tokens=header.found.get(TOKENS, ()),
            merges=header.found.get(MERGES, ()),
        )


class _Texts(Header):
    """A cursor that keeps the texts of the two arrays."""

    def __init__(self, data: mmap, path: Path) -> None:
        super().__init__(data, path)
        self.found: dict[str, tuple[bytes, ...]] = {}

    def key_value(self, metadata: dict[str, Value], lengths: dict[str, int]) -> None:
        """The next entry of the metadata."""
        start = self.at
        key, kind = self.string(), GGUFValueType(int(self.take("<I")))
        if key in (TOKENS, MERGES) and kind is GGUFValueType.ARRAY:
            self.found[key] = self.texts(key)
        self.at = start
        super().key_value(metadata, lengths)

    def texts(self, key: str) -> tuple[bytes, ...]:
        """The values of an array of texts, as they are: a token need not be UTF-8."""
        kind, length = GGUFValueType(int(self.take("<I"))), int(self.take("<Q"))
        if kind is not GGUFValueType.STRING:
            raise InputError(f"{self.path.name}: {key} holds {kind.name}, not texts")
        found = []
        for _ in range(length):
            n_bytes = int(self.take("<Q"))
            start = self.at
            self.skip(n_bytes)
            found.append(bytes(self.data[start : self.at]))
        return tuple(found)
