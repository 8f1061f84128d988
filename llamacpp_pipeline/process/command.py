"""What is asked of a child process, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Command:
    """One child process. The environment is built from an allow-list plus `environment`."""

    argv: tuple[str, ...]
    cwd: Path
    log: Path  # stdout and stderr, merged in the order written
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()  # replaced by *** in the log and in every message


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a child ended. `exit_code` is negative where a signal ended it."""

    command: Command
    exit_code: int
    seconds: float
    cpu_seconds: float  # of the child and its descendants, as last sampled
    peak_rss_bytes: int


class Watcher(Protocol):
    """Receives output while a child runs, and its vital signs between lines."""

    def output(self, text: str) -> None:
        """Text as it arrives, any number of lines, perhaps a part of one."""

    def heartbeat(self, *, cpu_seconds: float, rss_bytes: int) -> None:
        """About once a second."""


class Runner(Protocol):
    """Runs one command to its end; raises InterruptedRunError after stopping the child."""

    def run(self, command: Command, watcher: Watcher | None = None) -> Outcome:
        """Run `command`, copying its output into its log and to the watcher."""
        ...
