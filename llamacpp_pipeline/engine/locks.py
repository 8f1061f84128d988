"""Locks between processes: flock on small files, freed by the kernel when their holder dies."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from llamacpp_pipeline.errors import InterruptedRunError

LOOK_SECONDS = 0.2


@contextmanager
def locked(
    path: Path,
    *,
    waiting: Callable[[], None] | None = None,
    stop: threading.Event | None = None,
) -> Iterator[None]:
    """Hold the lock, waiting for it where another process does; `waiting` is told so, once.

    Raises:
        InterruptedRunError: `stop` was set while waiting.

    """
    descriptor = _take(path, wait=False)
    if descriptor is None:
        if waiting is not None:
            waiting()
        descriptor = _take(path, wait=True) if stop is None else _take_unless(stop, path)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock where nobody else does; yields whether it is held."""
    descriptor = _take(path, wait=False)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _take_unless(stop: threading.Event, path: Path) -> int:
    """The same, given up when `stop` is set: no signal reaches a thread that waits in flock."""
    while True:
        descriptor = _take(path, wait=False)
        if descriptor is not None:
            return descriptor
        if stop.wait(LOOK_SECONDS):
            raise InterruptedRunError("it waited for another run")


@contextmanager
def locked_with_others(path: Path) -> Iterator[None]:
    """Hold the lock together with all who hold it so, against those who want it alone."""
    descriptor = _take(path, wait=True, kind=fcntl.LOCK_SH)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _take(path: Path, *, wait: bool, kind: int = fcntl.LOCK_EX) -> int | None:
    """A descriptor that holds the lock. A file unlinked while we waited is not the lock."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        if _still_there(path, descriptor):
            return descriptor
        os.close(descriptor)


def _still_there(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
