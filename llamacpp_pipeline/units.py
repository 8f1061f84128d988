"""Numbers that carry meaning: estimates with their error, bits per weight, byte sizes."""

from __future__ import annotations

import math
import re

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

BINARY = ("B", "KiB", "MiB", "GiB", "TiB")
FACTORS = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
SIZE = re.compile(r"\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[KMGT]?i?B)?\s*", re.IGNORECASE)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Estimate:
    """A measured value and its standard error, in the same unit.

    `stderr` is None where the tool measured the value but could not tell its error.
    """

    value: float
    stderr: float | None


def bits_per_weight(*, size_bytes: int, n_elements: int) -> float:
    """Bits per weight: 8 x bytes / elements.

    Raises:
        ValueError: without elements.

    """
    if n_elements <= 0:
        message = f"bits per weight of {n_elements} elements"
        raise ValueError(message)
    return 8 * size_bytes / n_elements


def size_text(size_bytes: float) -> str:
    """A byte count for people, in binary units: `1.4 GiB`."""
    power = 0
    value = float(size_bytes)
    while abs(value) >= 1024 and power < len(BINARY) - 1:
        value /= 1024
        power += 1
    return f"{value:.0f} B" if power == 0 else f"{value:.1f} {BINARY[power]}"


def parse_size(text: str) -> int:
    """Bytes meant by `23.85GB` (decimal) or `1.5 GiB` (binary); a bare number is bytes.

    Raises:
        ValueError: where the text is not a number with a unit.

    """
    match = SIZE.fullmatch(text)
    if match is None:
        message = f"{text!r} is not a size such as 500MB, 23.85GB or 1.5GiB"
        raise ValueError(message)
    return math.floor(float(match["number"]) * FACTORS[(match["unit"] or "B").lower()])


def duration_text(seconds: float) -> str:
    """A duration for people: `42s`, `3m05s`, `2h07m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f}s" if seconds < 10 else f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m"
