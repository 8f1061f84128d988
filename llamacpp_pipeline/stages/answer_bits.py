"""Right and wrong answers as a short text: one bit a task, the first the highest, in base64."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence


def packed(answers: Sequence[bool]) -> str:
    """The answers as base64; the last byte is filled up with zeros."""
    bits = "".join("1" if right else "0" for right in answers)
    octets = (bits[at : at + 8].ljust(8, "0") for at in range(0, len(bits), 8))
    return base64.b64encode(bytes(int(octet, 2) for octet in octets)).decode("ascii")


def unpacked(text: str, n_tasks: int) -> tuple[bool, ...]:
    """The answers to so many tasks.

    Raises:
        ValueError: where the text is not that of so many.

    """
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        message = f"{text[:20]!r} is not base64"
        raise ValueError(message) from error
    bits = "".join(f"{octet:08b}" for octet in data)
    if len(data) != -(-n_tasks // 8) or "1" in bits[n_tasks:]:
        message = f"{len(data)} bytes are not the answers to {n_tasks} tasks"
        raise ValueError(message)
    return tuple(bit == "1" for bit in bits[:n_tasks])
