"""Sizes as people write them: 23.85GB, 24 GiB."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from llamacpp_pipeline.units import parse_size

GIB = 2**30


def bytes_meant(value: object) -> int:
    """Bytes of `23.85GB`, `1.5 GiB` or a whole number.

    Raises:
        ValueError: where it is no size, or nothing.

    """
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        message = f"{value} is not a size such as 500MB, 23.85GB or 1.5GiB"
        raise ValueError(message)  # noqa: TRY004  pydantic reports these only
    size = value if isinstance(value, int) else parse_size(value)
    if size <= 0:
        message = f"{value} leaves nothing: write a size such as 23.85GB"
        raise ValueError(message)
    return size


Bytes = Annotated[
    int,
    BeforeValidator(bytes_meant),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer", "exclusiveMinimum": 0}]}),
]


def size_label(size_bytes: int) -> str:
    """A size as a part of a file name: `24GiB` where it is whole, else `23.85GB`."""
    if size_bytes % GIB == 0:
        return f"{size_bytes // GIB}GiB"
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.6g}{unit}"
    return f"{size_bytes}B"
