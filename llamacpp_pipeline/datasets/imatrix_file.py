"""Importance matrix files: ours, upstream's GGUF, the legacy .dat, a third party's.

docs/imatrix.md has the layout. Values are kept as the sums that the file holds, in double
precision, so that merging files is adding them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from gguf import GGUFReader, GGUFWriter

from llamacpp_pipeline.datasets.dat_reader import DatReader
from llamacpp_pipeline.errors import InputError

Doubles = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

SQUARES = ".in_sum2"
COUNTS = ".counts"
VALUES = ".in_sum"
DATASETS = "imatrix.datasets"
CHUNK_COUNT = "imatrix.chunk_count"
CHUNK_SIZE = "imatrix.chunk_size"
MAGIC = b"GGUF"
DEFAULT_CHUNK_SIZE = 512


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is known of the inputs of one weight tensor.

    A dense tensor has one matrix, an expert tensor one per expert. A channel is an input
    column of the weight; a row is one token's activations.
    """

    name: str
    squares: Doubles  # [matrix, channel]: sum of x^2
    counts: Counts  # [matrix]: rows that were summed
    values: Doubles | None = None  # [matrix, channel]: sum of x; None: not known

    @property
    def n_rows(self) -> int:
        return int(self.counts.sum())


@dataclass(frozen=True, kw_only=True)
class Imatrix:
    """An importance matrix: entries by the name of the weight, and where they come from."""

    entries: Mapping[str, Entry]
    datasets: tuple[str, ...] = ()
    chunk_count: int | None = None
    chunk_size: int | None = None
    format: Literal["gguf", "dat"] = "gguf"

    @property
    def without_values(self) -> tuple[str, ...]:
        """The tensors whose mean activations are not known."""
        return tuple(name for name, entry in self.entries.items() if entry.values is None)


def read(path: Path, *, dat_chunk_size: int = DEFAULT_CHUNK_SIZE) -> Imatrix:
    """Any importance matrix file.

    Args:
        path: The file; its first bytes tell the format.
        dat_chunk_size: Tokens per chunk of a legacy file, which does not say: it only counts
            when the file is merged with others.

    Raises:
        InputError: what the file is, and why it cannot be used.

    """
    try:
        with path.open("rb") as file:
            is_gguf = file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        message = f"imatrix {path.name} cannot be read"
        raise InputError(message, evidence=[str(error)]) from error
    imatrix = _read_gguf(path) if is_gguf else _read_dat(path, dat_chunk_size)
    _check(imatrix, path)
    return imatrix


def _read_gguf(path: Path) -> Imatrix:
    try:
        reader = GGUFReader(path)
        tensors = {tensor.name: tensor for tensor in reader.tensors}
    except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError) as error:
        message = f"imatrix {path.name} is a GGUF file that is cut short or damaged"
        hint = "fetch or make it again"
        raise InputError(message, evidence=[str(error)], hint=hint) from error
    names = sorted(name.removesuffix(SQUARES) for name in tensors if name.endswith(SQUARES))
    if not names:
        message = f"imatrix {path.name} is a GGUF file without importance data"
        evidence = [f"none of its {len(tensors)} tensors is named '<weight>{SQUARES}'"]
        raise InputError(message, evidence=evidence, hint="give the file llama-imatrix wrote")
    arrays = {name: np.asarray(tensor.data) for name, tensor in tensors.items()}
    datasets = _field(reader, DATASETS)
    return Imatrix(
        entries={name: _gguf_entry(name, arrays, path) for name in names},
        datasets=tuple(str(one) for one in datasets) if isinstance(datasets, list) else (),
        chunk_count=_positive(_field(reader, CHUNK_COUNT)),
        chunk_size=_positive(_field(reader, CHUNK_SIZE)),
    )


def _field(reader: GGUFReader, key: str) -> object:
    field = reader.get_field(key)
    return None if field is None else field.contents()


def _positive(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _gguf_entry(name: str, arrays: Mapping[str, npt.NDArray[np.float32]], path: Path) -> Entry:
    squares, counts = arrays[name + SQUARES], arrays.get(name + COUNTS)
    values = arrays.get(name + VALUES)
    if counts is None:
        message = f"imatrix {path.name} has no '{name}{COUNTS}' beside '{name}{SQUARES}'"
        raise InputError(message, hint="make it again with llama-imatrix")
    types = {array.dtype.name for array in (squares, counts, values) if array is not None}
    sizes = {array.size for array in (squares, values) if array is not None}
    if types != {"float32"} or len(sizes) != 1 or squares.size % max(counts.size, 1):
        message = f"imatrix {path.name}: the parts of {name} do not fit together"
        shapes = [
            f"{suffix}: {array.dtype.name} {list(array.shape)}"
            for suffix, array in ((SQUARES, squares), (COUNTS, counts), (VALUES, values))
            if array is not None
        ]
        raise InputError(message, evidence=shapes, hint="make it again with llama-imatrix")
    n_matrices = counts.size
    return Entry(
        name=name,
        squares=squares.astype(np.float64).reshape(n_matrices, -1),
        counts=np.rint(counts.astype(np.float64)).astype(np.int64).ravel(),
        values=None if values is None else values.astype(np.float64).reshape(n_matrices, -1),
    )


def _read_dat(path: Path, chunk_size: int) -> Imatrix:
    content = path.read_bytes()
    try:
        stored = DatReader(content).read()
    except (ValueError, struct.error) as error:
        message = f"imatrix {path.name} is neither a GGUF file nor a legacy .dat file"
        hint = "give the file llama-imatrix wrote"
        raise InputError(message, evidence=[str(error)], hint=hint) from error
    entries = {
        one.name: Entry(
            name=one.name,
            squares=one.values.astype(np.float64).reshape(1, -1) * chunk_size,
            counts=np.array([one.n_calls * chunk_size], dtype=np.int64),
        )
        for one in sorted(stored.entries, key=lambda one: one.name)
    }
    return Imatrix(
        entries=entries,
        datasets=stored.datasets,
        chunk_count=_positive(stored.n_chunks),
        chunk_size=chunk_size,
        format="dat",
    )


def _check(imatrix: Imatrix, path: Path) -> None:
    bad = [
        f"{name}: {reason}"
        for name, entry in imatrix.entries.items()
        for reason in _problems(entry)
    ]
    if bad:
        message = f"imatrix {path.name} holds impossible values in {len(bad)} tensors"
        raise InputError(message, evidence=bad[:10], hint="make it again with llama-imatrix")


def _problems(entry: Entry) -> Iterable[str]:
    if not np.isfinite(entry.squares).all():
        yield "a sum of squares is not a finite number"
    elif (entry.squares < 0).any():
        yield "a sum of squares is negative"
    if entry.values is not None and not np.isfinite(entry.values).all():
        yield "a sum is not a finite number"
    if (entry.counts < 0).any():
        yield "a count is negative"


def write(imatrix: Imatrix, path: Path) -> None:
    """As GGUF, which unpatched tools read too. The file appears whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    writer = GGUFWriter(temporary, "imatrix")
    writer.kv_data[0].pop("general.architecture")  # no model: upstream's files have none
    writer.add_type("imatrix")
    writer.add_array(DATASETS, list(imatrix.datasets) or ["unknown"])  # quantize insists on it
    writer.add_uint32(CHUNK_COUNT, imatrix.chunk_count or 0)
    writer.add_uint32(CHUNK_SIZE, imatrix.chunk_size or 0)
    for name in sorted(imatrix.entries):
        entry = imatrix.entries[name]
        writer.add_tensor(name + SQUARES, entry.squares.astype(np.float32))
        writer.add_tensor(name + COUNTS, entry.counts.astype(np.float32).reshape(-1, 1))
        if entry.values is not None:
            writer.add_tensor(name + VALUES, entry.values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    temporary.replace(path)


def merge(parts: Sequence[Imatrix]) -> Imatrix:
    """All rows of all parts, as if they had been counted in one run.

    Means survive where every part that has rows of the tensor knows its sums.

    Raises:
        InputError: where a tensor has another shape in another part.

    """
    if not parts:
        raise InputError("nothing to merge: no imatrix given", hint="name at least one file")
    names = sorted({name for part in parts for name in part.entries})
    sizes = {part.chunk_size for part in parts}
    return Imatrix(
        entries={
            name: _merged([part.entries[name] for part in parts if name in part.entries])
            for name in names
        },
        datasets=tuple(dataset for part in parts for dataset in part.datasets),
        chunk_count=_total([part.chunk_count for part in parts]) if len(sizes) == 1 else None,
        chunk_size=sizes.pop() if len(sizes) == 1 else None,
    )


def _total(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _merged(entries: Sequence[Entry]) -> Entry:
    n_matrices = max(len(entry.counts) for entry in entries)
    fitted = [_spread(entry, n_matrices) for entry in entries]
    shapes = {entry.squares.shape for entry in fitted}
    name = entries[0].name
    if len(shapes) != 1:
        evidence = [f"{list(shape)} (matrices, channels)" for shape in sorted(shapes)]
        message = f"imatrix files do not fit together: {name} has another shape"
        raise InputError(message, evidence=evidence, hint="merge files of one model only")
    values = [entry.values for entry in fitted if entry.values is not None]
    all_known = all(entry.values is not None or entry.n_rows == 0 for entry in fitted)
    return Entry(
        name=name,
        squares=np.sum([entry.squares for entry in fitted], axis=0),
        counts=np.sum([entry.counts for entry in fitted], axis=0),
        values=np.sum(values, axis=0) if values and all_known else None,
    )


def _spread(entry: Entry, n_matrices: int) -> Entry:
    """One count for all experts, as older files have it, given to each of them."""
    if len(entry.counts) != 1 or entry.squares.size % n_matrices:
        return entry
    shape = (n_matrices, -1)
    return replace(
        entry,
        squares=entry.squares.reshape(shape),
        counts=np.repeat(entry.counts, n_matrices),
        values=None if entry.values is None else entry.values.reshape(shape),
    )
