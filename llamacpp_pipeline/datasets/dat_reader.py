"""The legacy .dat layout of importance matrices: little-endian 32-bit integers and floats.

`n_entries`, then per entry `name length, name, calls, n, n floats`, then optionally
`chunks, dataset length, dataset`. A float is the mean square times `calls`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LONGEST_NAME = 4096  # a longer one means that this is another kind of file


@dataclass(frozen=True, kw_only=True)
class DatEntry:
    name: str
    n_calls: int
    values: npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class DatContent:
    entries: tuple[DatEntry, ...]
    n_chunks: int | None
    datasets: tuple[str, ...]


class DatReader:
    """Walks over the bytes; every read is checked against the end."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def read(self) -> DatContent:
        """The whole file.

        Raises:
            ValueError: where the bytes are not such a file.

        """
        n_entries = self._int32("the number of entries", low=1, high=len(self._content))
        entries = tuple(self._entry() for _ in range(n_entries))
        if self._at == len(self._content):
            return DatContent(entries=entries, n_chunks=None, datasets=())
        n_chunks = self._int32("the number of chunks", low=0, high=2**31 - 1)
        if self._at == len(self._content):
            return DatContent(entries=entries, n_chunks=n_chunks, datasets=())
        dataset = self._text("the dataset", low=0)
        if self._at != len(self._content):
            message = f"{len(self._content) - self._at} bytes follow the end"
            raise ValueError(message)
        return DatContent(
            entries=entries, n_chunks=n_chunks, datasets=(dataset,) if dataset else ()
        )

    def _entry(self) -> DatEntry:
        name = self._text("the name of an entry", low=1)
        n_calls = self._int32(f"the calls of {name}", low=1, high=2**31 - 1)
        n_values = self._int32(f"the size of {name}", low=1, high=len(self._content))
        values = np.frombuffer(self._bytes(4 * n_values, f"the values of {name}"), dtype="<f4")
        return DatEntry(name=name, n_calls=n_calls, values=values)

    def _text(self, what: str, *, low: int) -> str:
        length = self._int32(f"the length of {what}", low=low, high=LONGEST_NAME)
        return self._bytes(length, what).decode("utf-8")

    def _int32(self, what: str, *, low: int, high: int) -> int:
        (value,) = struct.unpack("<i", self._bytes(4, what))
        if not low <= value <= high:
            message = f"{what} is {value}"
            raise ValueError(message)
        return int(value)

    def _bytes(self, size: int, what: str) -> bytes:
        end = self._at + size
        if end > len(self._content):
            message = f"the file ends at byte {len(self._content)}, within {what}"
            raise ValueError(message)
        part = self._content[self._at : end]
        self._at = end
        return part
