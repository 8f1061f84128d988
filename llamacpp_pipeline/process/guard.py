"""A small process beside a run: when the run dies, even by SIGKILL, its children die with it.

It reads process groups from a pipe whose other end only the run holds. The pipe's end is the
run's end; a run that ends well has removed its groups before.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable


class Guard:
    """The run's side: tells the guard which groups to kill."""

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._lock = threading.Lock()
        self._process = _start()

    def add(self, group: int) -> None:
        """Kill `group` if this process ends without removing it."""
        with self._lock:
            self._groups.add(group)
            self._tell(f"+{group}\n")

    def remove(self, group: int) -> None:
        """`group` has ended."""
        with self._lock:
            self._groups.discard(group)
            self._tell(f"-{group}\n")

    def close(self) -> None:
        """End the guard, which kills what is still listed."""
        with contextlib.suppress(BrokenPipeError):
            self._process.__exit__(None, None, None)

    def _tell(self, line: str) -> None:
        try:
            self._send(line)
        except BrokenPipeError:  # somebody ended the guard: start another
            self.close()
            self._process = _start()
            for group in self._groups:
                self._send(f"+{group}\n")

    def _send(self, line: str) -> None:
        if self._process.stdin is not None:
            os.write(self._process.stdin.fileno(), line.encode())


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        (sys.executable, "-I", "-S", __file__),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )


def listed(lines: Iterable[bytes]) -> set[int]:
    """The groups added and not removed."""
    groups: set[int] = set()
    for line in lines:
        number = int(line[1:])
        if line.startswith(b"+"):
            groups.add(number)
        else:
            groups.discard(number)
    return groups


def main() -> None:
    """The guard's side: wait for the end of the run, then kill what it left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for group in listed(sys.stdin.buffer):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
