"""One process does the work, the others wait and say so."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from llamacpp_pipeline.toolchain.places import made
from llamacpp_pipeline.toolchain.talk import Talk


@contextlib.contextmanager
def locked(path: Path, *, talk: Talk, waiting: str) -> Iterator[None]:
    """Hold the lock file `path`; says `waiting` where another process holds it.

    The kernel lets go of it when the process ends, however it ends.
    """
    made(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _take(descriptor, talk=talk, waiting=waiting)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, *, talk: Talk, waiting: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        talk.say(waiting)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
