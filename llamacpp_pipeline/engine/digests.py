"""Digests of files, computed once: an unchanged file is recognised by what stat() says of it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

CHUNK = 1 << 20
READABLE = 0o644
SETTLED_SECONDS = 2.0  # a file younger than this may change again within one tick of its clock


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of_text(text: str) -> str:
    """The sha256 of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


class Digests:
    """Digests of files outside the store, remembered in a folder: one small file for each path."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock

    def of(self, path: Path) -> str:
        """The sha256 of the file, from memory where nothing about it has changed."""
        file = path.resolve()
        note = self._folder / sha256_of_text(str(file))
        before = _facts(file)
        remembered = _read(note)
        if remembered is not None and remembered.get("facts") == before:
            return str(remembered["sha256"])
        digest = sha256_of(file)
        self.remember(file, digest=digest, facts=before)
        return digest

    def remember(self, file: Path, *, digest: str, facts: list[int]) -> None:
        """Keep the digest, unless the file has just changed or changes now."""
        settled = self._clock() - file.stat().st_mtime > SETTLED_SECONDS
        if settled and _facts(file) == facts:
            write_atomically(
                self._folder / sha256_of_text(str(file)),
                json.dumps({"facts": facts, "sha256": digest}),
            )


def write_atomically(path: Path, text: str) -> None:
    """The whole text or nothing, under the final name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("w", dir=path.parent, encoding="utf-8", delete=False) as file:
        try:
            file.write(text)
            file.flush()
            Path(file.name).chmod(READABLE)
            Path(file.name).replace(path)
        except BaseException:
            with suppress(FileNotFoundError):
                Path(file.name).unlink()
            raise


def _facts(file: Path) -> list[int]:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev]


def _read(note: Path) -> dict[str, object] | None:
    try:
        document = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None
