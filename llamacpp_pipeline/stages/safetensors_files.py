"""The tensors of a Hub checkpoint: where each lies in which safetensors file. Headers only."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llamacpp_pipeline.errors import InputError
from llamacpp_pipeline.units import size_text

INDEX = "model.safetensors.index.json"
LENGTH_BYTES = 8
LONGEST_HEADER = 100 * 2**20
BITS = {
    "F64": 64,
    "F32": 32,
    "F16": 16,
    "BF16": 16,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F4": 4,
    "I64": 64,
    "I32": 32,
    "I16": 16,
    "I8": 8,
    "U64": 64,
    "U32": 32,
    "U16": 16,
    "U8": 8,
    "BOOL": 8,
    "C64": 64,
}
DAMAGED = "fetch the model again: the file is incomplete or damaged"


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """One tensor; `start` is its first byte in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    n_bytes: int

    @property
    def n_values(self) -> int:
        """Values stored."""
        return math.prod(self.shape)


def checkpoint_tensors(folder: Path) -> tuple[StoredTensor, ...]:
    """Every tensor of the checkpoint, in the files' order.

    Raises:
        InputError: where there are no safetensors files, or one is absent or damaged.

    """
    return tuple(tensor for file in shards(folder) for tensor in read_header(file))


def shards(folder: Path) -> tuple[Path, ...]:
    """The checkpoint's files: what the index names, else every model*.safetensors."""
    index = folder / INDEX
    if index.is_file():
        return indexed(folder, index)
    files = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("*.safetensors"))
    if not files:
        others = sorted(path.name for path in folder.glob("*.bin"))[:3]
        raise InputError(
            f"{folder.name}: the model folder has no safetensors file",
            evidence=[f"found: {name}" for name in others],
            hint="name a folder (or repository) that holds model*.safetensors",
        )
    return tuple(files)


def indexed(folder: Path, index: Path) -> tuple[Path, ...]:
    """The files that the index names, all of which must be there."""
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        problem = f"{INDEX} cannot be read: {type(error).__name__}: {error}"
        raise InputError(problem, hint=DAMAGED) from error
    absent = [name for name in names if not (folder / name).is_file()]
    if absent:
        raise InputError(
            f"{folder.name}: {len(absent)} of {len(names)} files named in {INDEX} are absent",
            evidence=absent[:6],
            hint="fetch the model again, or copy the missing files into the folder",
        )
    return tuple(folder / name for name in names)


def read_header(file: Path) -> tuple[StoredTensor, ...]:
    """The tensors of one file, checked to fill it exactly.

    Raises:
        InputError: where the file is damaged or holds a type that is not known.

    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
            if size < LENGTH_BYTES or length > min(size - LENGTH_BYTES, LONGEST_HEADER):
                raise damaged(file, f"a header of {length} bytes in a file of {size}")
            header = json.loads(stream.read(length))
    except OSError as error:
        raise InputError(f"{file.name} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise damaged(file, f"its header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise damaged(file, "its header is not a JSON object")
    tensors = tuple(entries(file, header, start=LENGTH_BYTES + length))
    end = max((tensor.start + tensor.n_bytes for tensor in tensors), default=0)
    if end > size:
        missing = size_text(end - size)
        raise damaged(file, f"{missing} of tensor data are missing ({size} of {end} bytes)")
    return tensors


def entries(file: Path, header: dict[str, object], *, start: int) -> Iterator[StoredTensor]:
    """The tensors that a header lists, in the order of their data."""
    listed = ((name, entry) for name, entry in header.items() if name != "__metadata__")
    found = [entry_tensor(file, name, entry, start=start) for name, entry in listed]
    return iter(sorted(found, key=lambda tensor: tensor.start))


def entry_tensor(file: Path, name: str, entry: object, *, start: int) -> StoredTensor:
    """One entry of the header, checked."""
    try:
        dtype, shape, (begin, end) = fields(entry)
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(file, f"the header's entry for {name} is malformed") from error
    if dtype not in BITS:
        raise InputError(
            f"{file.name}: tensor {name} has the unknown type {dtype}",
            hint=f"the types known are {', '.join(BITS)}",
        )
    if (end - begin) * 8 != math.prod(shape) * BITS[dtype]:
        raise damaged(file, f"{name}: {end - begin} bytes for {list(shape)} of {dtype}")
    return StoredTensor(
        name=name, dtype=dtype, shape=shape, file=file, start=start + begin, n_bytes=end - begin
    )


def fields(entry: object) -> tuple[str, tuple[int, ...], tuple[int, int]]:
    """Type, shape and byte range of one header entry."""
    if not isinstance(entry, dict):
        raise TypeError
    begin, end = (int(offset) for offset in entry["data_offsets"])
    if not 0 <= begin <= end:
        raise ValueError
    return str(entry["dtype"]), tuple(int(extent) for extent in entry["shape"]), (begin, end)


def damaged(file: Path, what: str) -> InputError:
    return InputError(f"{file.name} is cut short or damaged", evidence=(what,), hint=DAMAGED)


def names(tensors: Iterable[StoredTensor]) -> tuple[str, ...]:
    """Just the names."""
    return tuple(tensor.name for tensor in tensors)
