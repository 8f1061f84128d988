"""A run as a person sees it: a live line for what runs, plain lines without a terminal."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from llamacpp_pipeline.engine.events import (
    Begun,
    Done,
    Ended,
    Event,
    Failed,
    Hit,
    Retried,
    Skipped,
    Started,
    Waiting,
)
from llamacpp_pipeline.plan.step import Step
from llamacpp_pipeline.process.command import Watcher
from llamacpp_pipeline.stages.base import ProgressPattern
from llamacpp_pipeline.units import duration_text, size_text

LIVE_SECONDS = 0.1  # a live line is drawn again no sooner
PLAIN_SECONDS = 15.0  # a plain line is written no sooner
SILENT_SECONDS = 5.0  # after so long without output, that is said
OVERLAP = 256  # of a counter that a read split
BESIDE = "  |  "
ERASE = "\r\x1b[K"


class Counter:
    """A tool's own counter, read from its output as it arrives."""

    def __init__(self, pattern: ProgressPattern, *, clock: Callable[[], float]) -> None:
        self._pattern = pattern
        self._clock = clock
        self._rest = ""
        self._first: tuple[float, int] | None = None
        self.done: int | None = None
        self.total: int | None = None
        self.before: int | None = None

    def feed(self, text: str) -> None:
        """Take over the last counts in the text."""
        window = self._rest + text
        self._rest = window[-OVERLAP:]
        if self._pattern.total is not None:
            self.total = _last(self._pattern.total, window, self.total)
        self.done = _last(self._pattern.done, window, self.done)
        if self._pattern.before is not None:
            self.before = _last(self._pattern.before, window, self.before)
        if self._first is None and self.done is not None:
            self._first = (self._clock(), self.done)

    def text(self) -> str | None:
        """`120/291 tensors  41%  ETA 12s`, as far as it is known."""
        if self.done is None:
            return None if self.before is None else f"searching  {self.before}%"
        if not self.total:
            return f"{self.done} {self._pattern.unit}s"
        percent = min(100, 100 * self.done // self.total)
        parts = [f"{self.done}/{self.total} {self._pattern.unit}s", f"{percent}%"]
        remaining = self.remaining_seconds()
        if remaining is not None:
            parts.append(f"ETA {duration_text(remaining)}")
        return "  ".join(parts)

    def remaining_seconds(self) -> float | None:
        """By the pace since the first count seen; None until there is one."""
        if self._first is None or self.done is None or self.total is None:
            return None
        since, first = self._first
        seen = self.done - first
        if seen <= 0 or self.done >= self.total:
            return None
        return (self._clock() - since) / seen * (self.total - self.done)


@dataclass
class Running:
    """A step that runs now: a watcher of its child that keeps what there is to show."""

    title: str
    counter: Counter | None
    draw: Callable[[Running], None]
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        self.drawn = float("-inf")
        self.started = self.spoke = self.clock()
        self.vitals = ""
        self._cpu: tuple[float, float] | None = None

    def output(self, text: str) -> None:
        """The child said something."""
        self.spoke = self.clock()
        if self.counter is not None:
            self.counter.feed(text)
        self.draw(self)

    def heartbeat(self, *, cpu_seconds: float, rss_bytes: int) -> None:
        """The child lives."""
        now = self.clock()
        before, used = self._cpu or (self.started, 0.0)
        cores = max(0.0, cpu_seconds - used) / (now - before) if now > before else 0.0
        self._cpu = (now, cpu_seconds)
        self.vitals = f"{cores:.1f} cores  {size_text(rss_bytes)}"
        self.draw(self)

    def text(self) -> str:
        """What is known of it now."""
        now = self.clock()
        counted = self.counter.text() if self.counter is not None else None
        parts = [self.title, duration_text(now - self.started), counted, self.vitals]
        if now - self.spoke >= SILENT_SECONDS:
            parts.append(f"silent for {duration_text(now - self.spoke)}")
        return "  ".join(part for part in parts if part)


class Progress:
    """Shows a run on stderr."""

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        live: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty() if live is None else live
        self._clock = clock
        self._n_steps = 0
        self._begun = 0
        self._numbers: dict[str, int] = {}  # of the steps that have begun and are not over
        self._running: dict[str, Running] = {}
        self._drawn = float("-inf")

    def tell(self, event: Event) -> None:
        """Write the event's line, where it has one."""
        line = self._line(event)
        if line is not None:
            self.say(line)

    def say(self, line: str) -> None:
        """A line that stays."""
        erase = ERASE if self._live else ""
        self._write(f"{erase}{line}\n")

    def watch(self, step: Step) -> Watcher:
        """The live line of a step."""
        pattern = step.stage.progress
        counter = None if pattern is None else Counter(pattern, clock=self._clock)
        running = Running(self._title(step), counter, self._draw, self._clock)
        self._drawn, running.drawn = float("-inf"), self._clock()
        self._running[step.key] = running
        return running

    def _line(self, event: Event) -> str | None:  # noqa: C901, PLR0911 - one case for each event
        match event:
            case Begun():
                self._n_steps, self._begun = event.n_steps, 0
                self._numbers.clear()
                return None
            case Started():
                return None if self._live else f"{self._title(event.step)}  started"
            case Waiting():
                return f"{self._title(event.step)}  waiting: another run is making it"
            case Hit():
                return f"{self._over(event.step)}  in the store"
            case Done():
                return f"{self._over(event.step)}  done in {_cost(event)}"
            case Retried():
                why = event.error.message.removeprefix(f"{event.step.key}: ")
                return f"{self._title(event.step)}  {why}; once more"
            case Failed():
                return f"{self._over(event.step)}  failed\n{_indented(event.error.report())}"
            case Skipped():
                return f"{self._over(event.step)}  skipped: {event.because} failed"
            case Ended():
                return "interrupted" if event.interrupted else None

    def _title(self, step: Step) -> str:
        width = len(str(self._n_steps))
        if step.key not in self._numbers:
            self._begun += 1
            self._numbers[step.key] = self._begun
        return f"[{self._numbers[step.key]:>{width}}/{self._n_steps}] {step.key}"

    def _over(self, step: Step) -> str:
        title = self._title(step)
        self._running.pop(step.key, None)
        del self._numbers[step.key]
        return title

    def _draw(self, running: Running) -> None:
        now = self._clock()
        last, pause = (self._drawn, LIVE_SECONDS) if self._live else (running.drawn, PLAIN_SECONDS)
        if now - last < pause:
            return
        self._drawn = running.drawn = now
        if self._live:
            text = BESIDE.join(each.text() for each in self._running.values())
            width = shutil.get_terminal_size().columns
            self._write(f"{ERASE}{text[: width - 1]}")
        else:
            self._write(f"{running.text()}\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _cost(event: Done) -> str:
    record = event.record
    return f"{duration_text(record.seconds)}, peak memory {size_text(record.peak_rss_bytes)}"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def _last(pattern: re.Pattern[str], text: str, otherwise: int | None) -> int | None:
    found = otherwise
    for match in pattern.finditer(text):
        found = int(match["n"])
    return found
