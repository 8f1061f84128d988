"""What happens during a run, as events; who listens decides how they look."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from llamacpp_pipeline.errors import PipelineError
from llamacpp_pipeline.plan.step import Step
from llamacpp_pipeline.process.command import Watcher
from llamacpp_pipeline.results.record import StepRecord


@dataclass(frozen=True, kw_only=True)
class Begun:
    """The run starts."""

    n_steps: int


@dataclass(frozen=True, kw_only=True)
class Started:
    """A step's child is about to run."""

    step: Step
    fingerprint: str
    device: str | None = None  # where several steps run at once: the one it runs on


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Another process makes this step; its result will be taken."""

    step: Step


@dataclass(frozen=True, kw_only=True)
class Hit:
    """The store has the step already."""

    step: Step
    record: StepRecord


@dataclass(frozen=True, kw_only=True)
class Done:
    """A step was made and is in the store."""

    step: Step
    record: StepRecord


@dataclass(frozen=True, kw_only=True)
class Retried:
    """A tool ended well without its result; it is run once more."""

    step: Step
    error: PipelineError


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A step failed."""

    step: Step
    error: PipelineError


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A step was not run because another, which it needs, failed."""

    step: Step
    because: str


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The run is over, well or not."""

    seconds: float
    child_seconds: float  # the wall time that children ran, whatever became of them
    interrupted: bool


Event = Begun | Started | Waiting | Hit | Done | Retried | Failed | Skipped | Ended


class Listener(Protocol):
    """Hears of events."""

    def tell(self, event: Event) -> None:
        """One event, when it happens."""


class Reporter(Listener, Protocol):
    """Hears of events and watches the running child."""

    def watch(self, step: Step) -> Watcher:
        """The watcher of the child of a step that was started."""
        ...


class Serial:
    """A reporter for several threads: it is told one thing at a time."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._lock = threading.RLock()

    def tell(self, event: Event) -> None:
        """One event, when it happens."""
        with self._lock:
            self._reporter.tell(event)

    def watch(self, step: Step) -> Watcher:
        """The watcher of a step's child."""
        with self._lock:
            return _Turn(self._reporter.watch(step), self._lock)


class _Turn:
    """A watcher that waits for its turn."""

    def __init__(self, watcher: Watcher, lock: threading.RLock) -> None:
        self._watcher = watcher
        self._lock = lock

    def output(self, text: str) -> None:
        with self._lock:
            self._watcher.output(text)

    def heartbeat(self, *, cpu_seconds: float, rss_bytes: int) -> None:
        with self._lock:
            self._watcher.heartbeat(cpu_seconds=cpu_seconds, rss_bytes=rss_bytes)


class Silent:
    """A reporter that says nothing."""

    def tell(self, event: Event) -> None:
        """Nothing is said."""

    def watch(self, step: Step) -> Watcher:
        """A watcher that looks away."""
        del step
        return self

    def output(self, text: str) -> None:
        """Nothing is shown."""

    def heartbeat(self, *, cpu_seconds: float, rss_bytes: int) -> None:
        """Nothing is shown."""


class Reporters:
    """One reporter that shows, and others that only listen (the journal)."""

    def __init__(self, shows: Reporter, listeners: Sequence[Listener]) -> None:
        self._shows = shows
        self._listeners = tuple(listeners)

    def tell(self, event: Event) -> None:
        """Tell them all; the one that shows, last."""
        for listener in (*self._listeners, self._shows):
            listener.tell(event)

    def watch(self, step: Step) -> Watcher:
        """The watcher of the one that shows."""
        return self._shows.watch(step)
