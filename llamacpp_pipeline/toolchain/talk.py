"""What the toolchain says while it works: short sentences, and a counter for long work."""

from __future__ import annotations

import re
from typing import Protocol

COUNTER = re.compile(r"\[(?P<done>\d+)/(?P<total>\d+)\]")
TAIL = 4096


class Talk(Protocol):
    """Receives what a person waiting wants to know. Never data."""

    def say(self, text: str) -> None:
        """One sentence, without a newline."""

    def progress(self, done: int, total: int) -> None:
        """Work done, of what there is, as the tool itself counts it."""


class Silence:
    """For callers that have nobody to talk to."""

    def say(self, text: str) -> None:
        """Nothing."""

    def progress(self, done: int, total: int) -> None:
        """Nothing."""


SILENCE = Silence()


class CounterWatcher:
    """A process/command.py Watcher that passes on ninja's own `[done/total]`."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._unread = ""

    def output(self, text: str) -> None:
        """Find the last counter in what arrived, also where a read split it."""
        self._unread = (self._unread + text)[-TAIL:]
        found = list(COUNTER.finditer(self._unread))
        if found:
            self._unread = self._unread[found[-1].end() :]
            self._talk.progress(int(found[-1]["done"]), int(found[-1]["total"]))

    def heartbeat(self, *, cpu_seconds: float, rss_bytes: int) -> None:
        """A build speaks often enough by itself."""
