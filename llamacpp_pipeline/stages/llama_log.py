"""What a tool's own log says went wrong."""

from __future__ import annotations

import re

RECORD = re.compile(r"\n|(?=\d+\.\d{2}\.\d{3}\.\d{3} [IWED] )")
PREFIX = re.compile(r"^(?:\d+\.)?\d+\.\d{2}\.\d{3}\.\d{3} (?P<level>[IWED]) ")
COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
TELLING = re.compile(
    r"\berror\b|\bfailed\b|\bfix:|GGML_ASSERT|terminate called|what\(\):|not supported"
    r"|^\w+(\.\w+)*(Error|Exception|Interrupt)\b|No space left|Killed|you need at least"
    r"|tokenizes to only",
    re.IGNORECASE,
)
AT_MOST = 6
WIDTH = 300


def complaints(log: str) -> tuple[str, ...]:
    """The lines in which the tool says what is wrong: the last few, each once."""
    found: dict[str, None] = {}
    for record in records(log):
        level = PREFIX.match(record)
        text = PREFIX.sub("", record).strip()
        if (level is not None and level["level"] == "E") or TELLING.search(text):
            found[text[:WIDTH]] = None
    return tuple(text for text in found if text)[-AT_MOST:]


def error_records(log: str) -> tuple[str, ...]:
    """What was logged at error level by a tool that shares llama.cpp's logger."""
    levels = ((PREFIX.match(record), record) for record in records(log))
    found = (
        PREFIX.sub("", record).strip()[:WIDTH]
        for match, record in levels
        if match is not None and match["level"] == "E"
    )
    return tuple(dict.fromkeys(text for text in found if text))


def records(log: str) -> list[str]:
    """The log cut at line ends, and at the tool's own prefix where it stands in mid-line."""
    return RECORD.split(COLOUR.sub("", log).replace("\r", "\n"))
