"""What a GGUF file says about itself: metadata, tensors, types, sizes. Its header only is read."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from llamacpp_pipeline.errors import InputError
from llamacpp_pipeline.units import bits_per_weight, size_text

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32
SCALARS = {
    GGUFValueType.UINT8: "<B",
    GGUFValueType.INT8: "<b",
    GGUFValueType.UINT16: "<H",
    GGUFValueType.INT16: "<h",
    GGUFValueType.UINT32: "<I",
    GGUFValueType.INT32: "<i",
    GGUFValueType.FLOAT32: "<f",
    GGUFValueType.BOOL: "<?",
    GGUFValueType.UINT64: "<Q",
    GGUFValueType.INT64: "<q",
    GGUFValueType.FLOAT64: "<d",
}
# Types of the pinned llama.cpp that the package does not list yet: id -> name, values, bytes.
NEWER_TYPES = {42: ("q2_0", 64, 18)}

Value = str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class GgufTensor:
    """One tensor: `shape` in ggml's order, row length first."""

    name: str
    type: str  # as llama.cpp prints it: q4_K
    shape: tuple[int, ...]
    n_elements: int
    n_bytes: int
    offset: int  # in the file


@dataclass(frozen=True, kw_only=True)
class GgufFacts:
    """A GGUF file's header. Of arrays in the metadata only the length is kept."""

    path: Path
    file_bytes: int
    metadata: Mapping[str, Value]
    array_lengths: Mapping[str, int]
    tensors: tuple[GgufTensor, ...]

    @property
    def n_elements(self) -> int:
        """Values in all tensors."""
        return sum(tensor.n_elements for tensor in self.tensors)

    @property
    def tensor_bytes(self) -> int:
        """Bytes of all tensors, without metadata and padding."""
        return sum(tensor.n_bytes for tensor in self.tensors)

    @property
    def bpw(self) -> float:
        """Bits per weight as llama-quantize prints it."""
        return bits_per_weight(size_bytes=self.tensor_bytes, n_elements=self.n_elements)

    @property
    def file_bpw(self) -> float:
        """Bits per weight of the whole file."""
        return bits_per_weight(size_bytes=self.file_bytes, n_elements=self.n_elements)

    @property
    def types(self) -> dict[str, int]:
        """How many tensors each type stores."""
        return dict(sorted(Counter(tensor.type for tensor in self.tensors).items()))

    @property
    def architecture(self) -> str:
        """The metadata's `general.architecture`.

        Raises:
            InputError: without one.

        """
        return self.text("general.architecture")

    @property
    def vocab_size(self) -> int | None:
        """Tokens in the vocabulary, where the file holds one."""
        return self.array_lengths.get("tokenizer.ggml.tokens")

    def text(self, key: str) -> str:
        """A text of the metadata.

        Raises:
            InputError: where it has none.

        """
        value = self.metadata.get(key)
        if not isinstance(value, str):
            raise InputError(f"{self.path.name}: the GGUF's metadata has no text {key}")
        return value

    def number(self, key: str) -> int:
        """A whole number of the metadata.

        Raises:
            InputError: where it has none.

        """
        value = self.metadata.get(key)
        if not isinstance(value, int):
            raise InputError(f"{self.path.name}: the GGUF's metadata has no number {key}")
        return value

    def values(self, tensor: GgufTensor) -> npt.NDArray[np.float32]:
        """The values of an F32 tensor."""
        return np.fromfile(
            self.path, dtype="<f4", count=tensor.n_elements, offset=tensor.offset
        ).astype(np.float32, copy=False)


def read_gguf(path: Path) -> GgufFacts:
    """What the file's header says.

    Raises:
        InputError: where it is absent, not a GGUF, cut short, or of an unknown layout.

    """
    try:
        file_bytes = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(4)
            if head != MAGIC:
                raise InputError(
                    f"{path.name} is not a GGUF file",
                    evidence=(f"it starts with {head!r} and has {size_text(file_bytes)}",),
                    hint="name a file that ends in .gguf, or fetch it again",
                )
            with mmap(stream.fileno(), 0, access=ACCESS_READ) as data:
                return Header(data, path).facts(file_bytes)
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror}") from error


class Header:
    """A cursor over the header of one file."""

    def __init__(self, data: mmap, path: Path) -> None:
        self.data = data
        self.path = path
        self.at = len(MAGIC)

    def facts(self, file_bytes: int) -> GgufFacts:
        """Everything up to the first tensor's data; the rest is checked to be there."""
        try:
            version, n_tensors, n_keys = self.take("<I"), self.take("<Q"), self.take("<Q")
            if version not in VERSIONS:
                raise self.problem(f"its GGUF version is {version}")
            metadata: dict[str, Value] = {}
            lengths: dict[str, int] = {}
            for _ in range(int(n_keys)):
                self.key_value(metadata, lengths)
            infos = [self.tensor_info() for _ in range(int(n_tensors))]
        except (struct.error, ValueError, KeyError) as error:
            raise self.problem(f"its header ends or breaks at byte {self.at}: {error}") from error
        alignment = int(metadata.get("general.alignment", ALIGNMENT))
        start = -(-self.at // alignment) * alignment
        tensors = tuple(self.placed(info, start, file_bytes) for info in infos)
        return GgufFacts(
            path=self.path,
            file_bytes=file_bytes,
            metadata=MappingProxyType(metadata),
            array_lengths=MappingProxyType(lengths),
            tensors=tensors,
        )

    def take(self, form: str) -> Value:
        """The next number."""
        value: Value = struct.unpack_from(form, self.data, self.at)[0]
        self.at += struct.calcsize(form)
        return value

    def skip(self, n_bytes: int) -> None:
        """Go on, within the file."""
        if n_bytes < 0 or self.at + n_bytes > len(self.data):
            message = f"{n_bytes} bytes wanted, {len(self.data) - self.at} left"
            raise ValueError(message)
        self.at += n_bytes

    def string(self) -> str:
        """The next text."""
        length = int(self.take("<Q"))
        start = self.at
        self.skip(length)
        return self.data[start : self.at].decode("utf-8", errors="replace")

    def key_value(self, metadata: dict[str, Value], lengths: dict[str, int]) -> None:
        """The next entry of the metadata."""
        key, kind = self.string(), GGUFValueType(self.take("<I"))
        if kind is GGUFValueType.ARRAY:
            lengths[key] = self.array()
        else:
            metadata[key] = (
                self.string() if kind is GGUFValueType.STRING else self.take(SCALARS[kind])
            )

    def array(self) -> int:
        """The length of the next array, whose values are passed over."""
        kind, length = GGUFValueType(self.take("<I")), int(self.take("<Q"))
        if kind is GGUFValueType.ARRAY:
            for _ in range(length):
                self.array()
        elif kind is GGUFValueType.STRING:
            for _ in range(length):
                self.skip(int(self.take("<Q")))
        else:
            self.skip(length * struct.calcsize(SCALARS[kind]))
        return length

    def tensor_info(self) -> tuple[str, tuple[int, ...], int, int]:
        """Name, shape, type id and relative offset of the next tensor."""
        name = self.string()
        shape = tuple(int(self.take("<Q")) for _ in range(int(self.take("<I"))))
        return name, shape, int(self.take("<I")), int(self.take("<Q"))

    def placed(
        self, info: tuple[str, tuple[int, ...], int, int], start: int, file_bytes: int
    ) -> GgufTensor:
        """The tensor, checked to lie within the file."""
        name, shape, type_id, offset = info
        try:
            type_name, block, block_bytes = type_layout(type_id)
        except ValueError as error:
            raise self.problem(f"tensor {name} has the unknown type {type_id}") from error
        n_elements = int(np.prod(shape, dtype=np.int64)) if shape else 1
        n_bytes = n_elements // block * block_bytes
        end = start + offset + n_bytes
        if end > file_bytes:
            raise self.problem(f"tensor {name} ends at byte {end}, the file at {file_bytes}")
        return GgufTensor(
            name=name,
            type=type_name,
            shape=shape,
            n_elements=n_elements,
            n_bytes=n_bytes,
            offset=start + offset,
        )

    def problem(self, what: str) -> InputError:
        return InputError(
            f"{self.path.name} is cut short or damaged",
            evidence=(what,),
            hint="make or fetch it again",
        )


def type_layout(type_id: int) -> tuple[str, int, int]:
    """Name, values per block and bytes per block of a ggml type.

    Raises:
        ValueError: where the type is not known.

    """
    if type_id in NEWER_TYPES:
        return NEWER_TYPES[type_id]
    kind = GGMLQuantizationType(type_id)
    block, block_bytes = GGML_QUANT_SIZES[kind]
    return type_name(kind.name), block, block_bytes


def bytes_at(kind: str, n_elements: int) -> int:
    """What a tensor takes at a ggml type named as llama.cpp prints it.

    Raises:
        ValueError: where the type is not known.

    """
    named = {type_name(one.name): one.value for one in GGMLQuantizationType}
    named |= {name: type_id for type_id, (name, _, _) in NEWER_TYPES.items()}
    if kind not in named:
        message = f"{kind!r} is no ggml type"
        raise ValueError(message)
    _, block, block_bytes = type_layout(named[kind])
    return n_elements // block * block_bytes


def type_name(name: str) -> str:
    """llama.cpp's spelling of a type: lower case, but for the K of k-quants."""
    lower = name.lower()
    return f"{lower[:-2]}_K" if lower.endswith("_k") else lower
