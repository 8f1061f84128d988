"""Secrets out of text and out of a stream, also where a read splits one."""

from __future__ import annotations

import re
from collections.abc import Sequence

MASK = "***"


def redact(text: str, secrets: Sequence[str]) -> str:
    """The text with every secret replaced."""
    for secret in _longest_first(secrets):
        text = text.replace(secret, MASK)
    return text


class Redactor:
    """Replaces secrets in a stream of bytes.

    What could be the beginning of a secret is held back until the next bytes tell.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = tuple(secret.encode() for secret in _longest_first(secrets))
        self._pattern = re.compile(b"|".join(map(re.escape, self._secrets)))
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What is safe to show, with `data` added."""
        if not self._secrets:
            return data
        buffer, shown, start = self._held + data, bytearray(), 0
        while True:
            match = self._pattern.search(buffer, start)
            doubtful = self._doubtful(buffer, start)
            if match is None or doubtful <= match.start():
                shown += buffer[start:doubtful]
                self._held = buffer[doubtful:]
                return bytes(shown)
            shown += buffer[start : match.start()] + MASK.encode()
            start = match.end()

    def flush(self) -> bytes:
        """The rest, at the end of the stream."""
        rest, self._held = self._held, b""
        return self._pattern.sub(MASK.encode(), rest) if self._secrets else rest

    def _doubtful(self, buffer: bytes, start: int) -> int:
        """Where the first tail begins that more bytes could turn into a secret."""
        earliest = max(start, len(buffer) - len(self._secrets[0]) + 1)
        for position in range(earliest, len(buffer)):
            tail = buffer[position:]
            if any(secret.startswith(tail) and secret != tail for secret in self._secrets):
                return position
        return len(buffer)


def _longest_first(secrets: Sequence[str]) -> list[str]:
    return sorted({secret for secret in secrets if secret}, key=len, reverse=True)
