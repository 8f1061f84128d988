"""Small importance matrices, and their bytes in the formats of others."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGUFWriter

from llamacpp_pipeline.datasets.imatrix_file import Entry, Imatrix

Rows = Sequence[Sequence[float]]


def entry(name: str, rows: Rows, *, with_values: bool = True) -> Entry:
    """A dense tensor that saw these rows."""
    x = np.array(rows, dtype=np.float64)
    return Entry(
        name=name,
        squares=(x * x).sum(axis=0, keepdims=True),
        counts=np.array([len(x)], dtype=np.int64),
        values=x.sum(axis=0, keepdims=True) if with_values else None,
    )


def expert_entry(name: str, rows_of: Sequence[Rows], *, n_channels: int) -> Entry:
    """An expert tensor whose experts saw these rows."""
    parts = [np.array(rows, dtype=np.float64).reshape(-1, n_channels) for rows in rows_of]
    return Entry(
        name=name,
        squares=np.array([(x * x).sum(axis=0) for x in parts]),
        counts=np.array([len(x) for x in parts], dtype=np.int64),
        values=np.array([x.sum(axis=0) for x in parts]),
    )


def imatrix(*entries: Entry, chunk_count: int | None = 3, chunk_size: int | None = 64) -> Imatrix:
    return Imatrix(
        entries={one.name: one for one in sorted(entries, key=lambda one: one.name)},
        datasets=("text.txt",),
        chunk_count=chunk_count,
        chunk_size=chunk_size,
    )


def write_tensors(path: Path, tensors: Mapping[str, npt.NDArray[np.generic]]) -> Path:
    """A GGUF of these tensors, whatever they are."""
    writer = GGUFWriter(path, "other")
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def dat_bytes(entries: Mapping[str, tuple[int, Sequence[float]]], *, dataset: str = "t") -> bytes:
    """The legacy layout: name -> (calls, mean square times calls)."""
    parts = [struct.pack("<i", len(entries))]
    for name, (n_calls, values) in entries.items():
        encoded = name.encode()
        parts += [struct.pack("<i", len(encoded)), encoded]
        parts += [struct.pack("<ii", n_calls, len(values)), np.array(values, "<f4").tobytes()]
    parts += [struct.pack("<ii", 7, len(dataset)), dataset.encode()]
    return b"".join(parts)
