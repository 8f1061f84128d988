"""Right and wrong answers as a short text: one bit a task, the first the highest, in hexadecimal.

Not in base64, whose slashes look like paths, and which by chance looks like a token.
"""

from __future__ import annotations

from collections.abc import Sequence

BITS = 4  # a digit's


def packed(answers: Sequence[bool]) -> str:
    """The answers as hexadecimal digits; the last one is filled up with zeros."""
    bits = "".join("1" if right else "0" for right in answers)
    digits = (bits[at : at + BITS].ljust(BITS, "0") for at in range(0, len(bits), BITS))
    return "".join(f"{int(digit, 2):x}" for digit in digits)


def unpacked(text: str, n_tasks: int) -> tuple[bool, ...]:
    """The answers to so many tasks.

    Raises:
        ValueError: where the text is not that of so many.

    """
    if set(text) - set("0123456789abcdef"):
        message = f"{text[:20]!r} is not hexadecimal"
        raise ValueError(message)
    bits = "".join(f"{int(digit, 16):0{BITS}b}" for digit in text)
    if len(text) != -(-n_tasks // BITS) or "1" in bits[n_tasks:]:
        message = f"{len(text)} digits are not the answers to {n_tasks} tasks"
        raise ValueError(message)
    return tuple(bit == "1" for bit in bits[:n_tasks])
