"""A Runner that plays a script instead of starting processes, and a Talk that remembers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llamacpp_pipeline.process.command import Command, Outcome, Watcher

Effect = Callable[[Command], None]


def no_effect(command: Command) -> None:
    del command


@dataclass
class Reply:
    """How a program behaves: what it prints, how it ends, what it leaves behind."""

    text: str = ""
    exit_code: int = 0
    effect: Effect = no_effect


@dataclass
class ScriptedRunner:
    """Answers by the name of the program; keeps the commands."""

    replies: Mapping[str, Reply] = field(default_factory=dict)
    history: list[Command] = field(default_factory=list)

    def run(self, command: Command, watcher: Watcher | None = None) -> Outcome:
        self.history.append(command)
        name = Path(command.argv[0]).name
        assert name in self.replies, f"nobody scripted {command.argv}"
        reply = self.replies[name]
        reply.effect(command)
        command.log.write_text(f"$ {name}\n{reply.text}", encoding="utf-8")
        if watcher is not None:
            watcher.output(reply.text)
        return Outcome(
            command=command,
            exit_code=reply.exit_code,
            seconds=0.1,
            cpu_seconds=0.1,
            peak_rss_bytes=1,
        )

    @property
    def programs(self) -> list[str]:
        return [Path(command.argv[0]).name for command in self.history]


@dataclass
class RecordingTalk:
    said: list[str] = field(default_factory=list)
    counted: list[tuple[int, int]] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.said.append(text)

    def progress(self, done: int, total: int) -> None:
        self.counted.append((done, total))


def program(folder: Path, name: str) -> Path:
    """An executable of that name, never really run."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\nexit 99\n", encoding="utf-8")
    path.chmod(0o755)
    return path
