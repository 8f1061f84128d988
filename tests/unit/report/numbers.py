"""Every number on a card must come from results.json: those that do not, found.

A number counts as found where a number in the results, in one of the units that the card uses,
rounds to it at the digits shown; or where it is part of a name, a digest, a command or another
text in the results; or where it stands in the card's own templates and headings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llamacpp_pipeline.report import template

NUMBER = re.compile(r"(?<![\w.])-?\d+(?:[ ]\d{3})*(?:\.\d+)?(?![\w])")
SCALES = (1, 2**10, 2**20, 2**30, 10**6, 10**9)
OWN_WORDS = ("99.9% KLD", "99.0% KLD", "95.0% KLD", "90.0% KLD", "10.0% KLD", "5.0% KLD",
             "1.0% KLD", "0.1% KLD", "100%", "8080")  # fmt: skip


def unexplained_numbers(card: str, results: str) -> list[str]:
    """Numbers on the card for which there is nothing in the results, with their line."""
    document = json.loads(results)
    numbers = sorted({abs(value) for value in _numbers(document)})
    texts = "\n".join(_texts(document))
    own = "\n".join([*OWN_WORDS, *_templates()])
    return [
        f"{found[0]}: {line.strip()}"
        for line in _lines(card)
        for found in NUMBER.finditer(line)
        if not _is_found(found[0], numbers)
        and not _stands_in(found[0], texts)
        and not _stands_in(found[0], own)
    ]


def _lines(card: str) -> Iterator[str]:
    """Its lines; each cell of a table by itself, and escapes taken away."""
    for line in card.replace(' width="800"', "").splitlines():  # of a picture
        plain = re.sub(r"\\([^\w\s])", r"\1", line)
        yield from plain.split("|") if plain.startswith("|") else [plain]


def _is_found(text: str, numbers: list[float]) -> bool:
    plain = text.replace(" ", "").lstrip("-")
    shown = float(plain)
    half = 0.5 * 10 ** -len(plain.partition(".")[2]) * (1 + 1e-9)
    two_digits = float(f"{shown:.2g}") == shown
    for value in numbers:
        for scale in SCALES:
            scaled = value / scale
            if abs(scaled - shown) <= half:
                return True
            if two_digits and scaled >= 1 and float(f"{scaled:.2g}") == shown:
                return True
    return False


def _stands_in(text: str, where: str) -> bool:
    return re.search(rf"(?<![\d.]){re.escape(text)}(?![\d])", where) is not None


def _numbers(value: Any) -> Iterator[float]:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        for item in value.values():
            yield from _numbers(item)
    elif isinstance(value, list):
        yield float(len(value))
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield float(value)


def _texts(value: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        yield from map(str, value)
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


def _templates() -> Iterator[str]:
    for path in sorted(Path(template.TEMPLATES).rglob("*.j2")):
        yield path.read_text(encoding="utf-8")
