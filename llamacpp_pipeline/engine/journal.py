"""run.jsonl: one JSON line for each event of a run, in the result folder.

It names no absolute path: the folder may be published.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

import psutil

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
from llamacpp_pipeline.errors import PipelineError

NAME = "run.jsonl"
Line = dict[str, Any]


class Journal:
    """Writes each event when it happens, so that a killed run has one too."""

    def __init__(
        self,
        stream: TextIO,
        *,
        hidden: dict[str, str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._stream = stream
        self._hidden = hidden or {}
        self._clock = clock

    def tell(self, event: Event) -> None:
        """One line."""
        self.write(_line(event))

    def write(self, line: Line) -> None:
        """One line, with the time."""
        at = datetime.fromtimestamp(self._clock(), timezone.utc).isoformat(timespec="milliseconds")
        text = json.dumps({"at": at, **line}, ensure_ascii=False)
        for private, public in self._hidden.items():
            text = text.replace(private, public)
        self._stream.write(f"{text}\n")
        self._stream.flush()


@contextmanager
def journal_in(folder: Path, *, store: Path) -> Iterator[Journal]:
    """The journal of this run in its result folder; the last line has the wall time of it all."""
    folder.mkdir(parents=True, exist_ok=True)
    hidden = {str(store): "(store)", str(folder.absolute()): "(results)", str(Path.home()): "~"}
    with (folder / NAME).open("w", encoding="utf-8") as stream:
        journal = Journal(stream, hidden=hidden)
        try:
            yield journal
        finally:
            seconds = time.time() - psutil.Process().create_time()
            journal.write({"event": "left", "process_seconds": round(seconds, 3)})


@dataclass(frozen=True, kw_only=True)
class Overhead:
    """What the pipeline itself cost in a run."""

    wall_seconds: float  # of the process, where the journal has it, else of the run
    child_seconds: float

    @property
    def own_seconds(self) -> float:
        """Not spent in children."""
        return max(0.0, self.wall_seconds - self.child_seconds)

    @property
    def share(self) -> float:
        """Of the wall time, between 0 and 1."""
        return self.own_seconds / self.wall_seconds if self.wall_seconds > 0 else 0.0


def read_journal(path: Path) -> tuple[Line, ...]:
    """The lines of a journal. The last line of a killed run may be cut short: it is left out.

    Raises:
        PipelineError: where a line is not JSON.

    """
    text = path.read_text(encoding="utf-8")
    whole, _, _ = text.rpartition("\n")
    try:
        return tuple(json.loads(line) for line in whole.splitlines())
    except ValueError as error:
        raise PipelineError(f"{path} is not a journal", evidence=(str(error),)) from error


def overhead(path: Path) -> Overhead:
    """What the pipeline itself cost in the run that the journal is of.

    Raises:
        PipelineError: where the run did not come to its end.

    """
    lines = {line["event"]: line for line in read_journal(path)}
    if "ended" not in lines:
        raise PipelineError(f"{path}: this run did not come to its end")
    wall = lines["ended"]["seconds"]
    if "left" in lines:
        wall = lines["left"]["process_seconds"]
    return Overhead(wall_seconds=wall, child_seconds=lines["ended"]["child_seconds"])


def _line(event: Event) -> Line:  # noqa: C901, PLR0911 - one case for each event
    match event:
        case Begun():
            return {"event": "begun", "n_steps": event.n_steps}
        case Started():
            fingerprint = event.fingerprint
            device = {} if event.device is None else {"device": event.device}
            return {
                "event": "started", "step": event.step.key, "fingerprint": fingerprint, **device
            }  # fmt: skip
        case Waiting():
            return {"event": "waiting", "step": event.step.key}
        case Hit():
            fingerprint = event.record.fingerprint
            return {"event": "hit", "step": event.step.key, "fingerprint": fingerprint}
        case Done():
            return {"event": "done", "step": event.step.key, **_cost(event)}
        case Retried():
            return {"event": "retried", "step": event.step.key, **_failure(event.error)}
        case Failed():
            return {"event": "failed", "step": event.step.key, **_failure(event.error)}
        case Skipped():
            return {"event": "skipped", "step": event.step.key, "because": event.because}
        case Ended():
            return {
                "event": "ended",
                "seconds": round(event.seconds, 3),
                "child_seconds": round(event.child_seconds, 3),
                "interrupted": event.interrupted,
            }


def _cost(event: Done) -> Line:
    record = event.record
    return {
        "seconds": round(record.seconds, 3),
        "cpu_seconds": round(record.cpu_seconds, 3),
        "peak_rss_bytes": record.peak_rss_bytes,
        "attempts": record.attempts,
    }


def _failure(error: PipelineError) -> Line:
    return {
        "error": error.message,
        "evidence": list(error.evidence),
        "exit_code": error.exit_code,
    }
