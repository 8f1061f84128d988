"""Other people's programs: found on this machine, and asked a question."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from llamacpp_pipeline.errors import ToolchainError
from llamacpp_pipeline.process.command import Command, Runner

NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a program said and how it ended."""

    exit_code: int
    text: str

    @property
    def lines(self) -> tuple[str, ...]:
        """Its lines that are not blank."""
        return tuple(line.rstrip() for line in self.text.splitlines() if line.strip())


class Listener:
    """A process/command.py Watcher that keeps all output."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def output(self, text: str) -> None:
        """Keep it."""
        self._parts.append(text)

    def heartbeat(self, *, cpu_seconds: float, rss_bytes: int) -> None:
        """A short program needs none."""

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self._parts)


def ask(
    runner: Runner,
    argv: tuple[str, ...],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] = NOTHING,
    secrets: tuple[str, ...] = (),
) -> Answer:
    """Run a program that ends by itself; its output is the answer."""
    listener = Listener()
    with tempfile.TemporaryDirectory(prefix="llamacpp-pipeline-") as scratch:
        outcome = runner.run(
            Command(
                argv=argv,
                cwd=cwd or Path(scratch),
                log=Path(scratch) / "log",
                environment=environment,
                secrets=secrets,
            ),
            listener,
        )
    return Answer(exit_code=outcome.exit_code, text=listener.text)


def beside_python(name: str) -> Path | None:
    """A program of this virtual environment, else one on PATH.

    cmake and ninja come from PyPI into the environment that runs this package.
    """
    own = Path(sys.executable).parent / name
    if own.is_file() and os.access(own, os.X_OK):
        return own
    return on_path((name,))


def on_path(names: Iterable[str]) -> Path | None:
    """The first of these programs that PATH has."""
    for name in names:
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    return None


def needed(name: str, *, hint: str) -> Path:
    """A program of this environment or of PATH.

    Raises:
        ToolchainError: there is none; `hint` says how to get it.

    """
    found = beside_python(name)
    if found is None:
        raise ToolchainError(f"{name} is not installed", hint=hint)
    return found
