"""One step made: its child run in a staging folder, its result proven, its record published."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from llamacpp_pipeline import __version__
from llamacpp_pipeline.engine import diagnosis
from llamacpp_pipeline.engine.devices import ONE_AT_A_TIME, Devices
from llamacpp_pipeline.engine.diagnosis import Room
from llamacpp_pipeline.engine.events import Reporter, Retried, Started
from llamacpp_pipeline.engine.leaves import refuse_changed
from llamacpp_pipeline.engine.shared import in_common
from llamacpp_pipeline.engine.store import LOG, Entry, Store, remove
from llamacpp_pipeline.engine.workplace import (
    INPUTS,
    Supply,
    laid_out,
    missing_output,
    output_files,
    relative,
    shared_key,
    supplies,
    with_shared,
)
from llamacpp_pipeline.errors import PipelineError, UnreadableOutputError
from llamacpp_pipeline.plan.step import Leaf, Step
from llamacpp_pipeline.process.command import Command, Outcome, Runner
from llamacpp_pipeline.process.environment import secrets_in
from llamacpp_pipeline.process.redact import redact
from llamacpp_pipeline.process.runner import logged_output
from llamacpp_pipeline.results.record import Machine, StepRecord
from llamacpp_pipeline.stages.base import SHARED, Frozen, MadeBy, Paths


class Tools(Protocol):
    """The binaries, by what runs them and what identifies them."""

    @property
    def note(self) -> str | None:
        """Set where they are not of the pinned source."""
        ...

    def prefix(self, tool: str) -> tuple[str, ...]:
        """What takes the place of a tool's name in a command."""
        ...

    def identity(self, made_by: MadeBy) -> str:
        """What a step made by them is identified by."""
        ...


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Where and with what a plan is run."""

    store: Store
    runner: Runner
    tools: Tools
    machine: Machine
    environ: Mapping[str, str]  # the user's; a stage sees of it what it declares
    devices: Devices = ONE_AT_A_TIME
    stop: threading.Event = field(default_factory=threading.Event)  # the runner's: ends children


@dataclass(frozen=True, kw_only=True)
class Order:
    """One step to make, its predecessors being in the store."""

    step: Step
    fingerprint: str
    entries: Mapping[str, Entry]  # of the steps before, by their keys
    predicted_bytes: int | None = None
    device: str | None = None  # where several steps run at once
    confined: Mapping[str, str] = field(default_factory=dict)  # variables that keep it there


class Timesheet:
    """Seconds during which a child ran, or several, whatever became of them."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._lock = threading.Lock()
        self._running = 0
        self._since = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """A child runs while this lasts."""
        with self._lock:
            if not self._running:
                self._since = time.monotonic()
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                if not self._running:
                    self.seconds += time.monotonic() - self._since


class Attempt:
    """One run of a step's child. Nothing of it is seen unless it is published."""

    def __init__(
        self, order: Order, workshop: Workshop, folder: Path, *, shared: Path | None = None
    ) -> None:
        self.order = order
        self.workshop = workshop
        self.folder = folder
        self.step = order.step
        self.log = folder / LOG
        self.started = datetime.now(timezone.utc)
        self.inputs: Mapping[str, Supply] = supplies(order.step, order.entries)
        self.paths: Paths = laid_out(folder, order.step, self.inputs)
        if shared is not None:
            self.paths = with_shared(folder, self.paths, shared)

    def command(self) -> Command:
        """What is run, as seen from the staging folder."""
        stage = self.step.stage
        first, *rest = stage.argv(self.step.params, self.paths)
        if first != stage.tool:
            message = f"{stage.name}: its command begins with {first!r}, not with its tool"
            raise AssertionError(message)
        own = (relative(argument, self.folder) for argument in rest)
        arguments = (*self._labels(), *own, *self._placement())
        environ = self.workshop.environ
        declared = {name: environ[name] for name in stage.environment if name in environ}
        return Command(
            argv=(*self.workshop.tools.prefix(stage.tool), *arguments, *self._called()),
            cwd=self.folder,
            log=self.log,
            environment={**declared, **self.order.confined},
            secrets=secrets_in(declared),
        )

    def result(self, outcome: Outcome) -> Frozen:
        """The result, where all proofs of it are there.

        Raises:
            PipelineError: where one is not, with what the tool said.

        """
        step, log = self.step, logged_output(self.log)
        room = _room(self.order, self.workshop.store)
        if outcome.exit_code != 0:
            raise diagnosis.child_failure(
                step, outcome, log, room=room, machine=self.workshop.machine
            )
        try:
            return self._proven(log)
        except UnreadableOutputError as error:
            error.evidence = error.evidence or diagnosis.evidence(log)
            if diagnosis.says_full(log):
                raise diagnosis.disk_full(step, room, evidence=error.evidence) from error
            raise

    def record(self, outcome: Outcome, result: Frozen, *, attempts: int) -> StepRecord:
        """What is kept of the step."""
        step, stage, tools = self.step, self.step.stage, self.workshop.tools
        return StepRecord(
            fingerprint=self.order.fingerprint,
            stage=stage.name,
            stage_version=stage.version,
            made_by=stage.made_by,
            made_by_id=tools.identity(stage.made_by),
            toolchain_note=None if stage.made_by == "pipeline" else tools.note,
            params=step.params.model_dump(mode="json"),
            labels=dict(step.labels),
            inputs={name: supply.recorded for name, supply in self.inputs.items()},
            command=self._recorded_command(outcome.command),
            placement=step.placement,
            machine=self.workshop.machine,
            pipeline_version=__version__,
            started=self.started.isoformat(timespec="seconds"),
            seconds=outcome.seconds,
            cpu_seconds=outcome.cpu_seconds,
            peak_rss_bytes=outcome.peak_rss_bytes,
            attempts=attempts,
            outputs=output_files(self.folder, step),
            result=_finite(result, stage.tool),
        )

    def tidy(self) -> None:
        """Leave what is published: the outputs and the log."""
        remove(self.folder / INPUTS)
        (self.folder / SHARED).unlink(missing_ok=True)
        wanted = {*self.step.stage.outputs.values(), LOG}
        for path in self.folder.iterdir():
            if path.name not in wanted:
                remove(path) if path.is_dir() else path.unlink()

    def _proven(self, log: str) -> Frozen:
        stage = self.step.stage
        if stage.take is not None:
            stage.take(self.step.params, self.paths)
        missing = missing_output(self.folder, self.step)
        if missing is not None:
            explained = stage.explain(log)
            raise explained or UnreadableOutputError(
                stage.tool, f"its output {missing}", diagnosis.evidence(log)
            )
        result: Frozen = stage.read(self.step.params, log, self.paths)
        if stage.labels is not None:
            stage.labels.refuse_other(self.step.labels, self.paths)
        return result

    def _labels(self) -> tuple[str, ...]:
        stage, labels = self.step.stage, self.step.labels
        return () if stage.labels is None else tuple(stage.labels.flags(labels))

    def _placement(self) -> tuple[str, ...]:
        return tuple(self.step.stage.placement(self.step.placement))

    def _called(self) -> tuple[str, ...]:
        prefix = self.workshop.tools.prefix
        names = sorted(self.step.stage.calls)
        return tuple(word for name in names for word in ("--binary", name, *prefix(name)))

    def _recorded_command(self, command: Command) -> tuple[str, ...]:
        n_prefix = len(self.workshop.tools.prefix(self.step.stage.tool))
        end = len(command.argv) - len(self._called())
        arguments = (redact(a, command.secrets) for a in command.argv[n_prefix:end])
        return (self.step.stage.tool, *arguments)


def make(order: Order, workshop: Workshop, reporter: Reporter, timesheet: Timesheet) -> Entry:
    """Run a step and publish what it leaves. The claim on its fingerprint must be held.

    Raises:
        PipelineError: it failed; the log is kept and named.
        InterruptedRunError: the run was stopped.

    """
    _refuse_changed_leaves(order.step, workshop.store)
    try:
        return _attempted(order, workshop, reporter, timesheet, attempts=1)
    except UnreadableOutputError as error:  # a result line is now and then lost: once more
        reporter.tell(Retried(step=order.step, error=error))
    return _attempted(order, workshop, reporter, timesheet, attempts=2)


def _attempted(
    order: Order, workshop: Workshop, reporter: Reporter, timesheet: Timesheet, *, attempts: int
) -> Entry:
    store, step = workshop.store, order.step
    with store.workplace(order.fingerprint) as folder, _shared(order, workshop) as shared:
        try:
            _refuse_too_little_room(order, store)
            attempt = Attempt(order, workshop, folder, shared=shared)
            command = attempt.command()
            reporter.tell(Started(step=step, fingerprint=order.fingerprint, device=order.device))
            with timesheet.running():
                outcome = workshop.runner.run(command, reporter.watch(step))
            result = attempt.result(outcome)
            record = attempt.record(outcome, result, attempts=attempts)
            attempt.tidy()
            return store.publish(record)
        except PipelineError as error:
            _complete(error, step, log=_kept_log(order, workshop, folder))
            raise
        except OSError as error:
            known = diagnosis.own_failure(step, error, room=_room(order, store))
            if known is None:
                raise
            raise known from error


@contextmanager
def _shared(order: Order, workshop: Workshop) -> Iterator[Path | None]:
    """The folder of the step's stage that it shares with others, while it is used."""
    build = workshop.tools.identity(order.step.stage.made_by)
    key = shared_key(order.step, supplies(order.step, order.entries), build=build)
    if key is None:
        yield None
        return
    with in_common(workshop.store, key) as folder:
        yield folder


def _kept_log(order: Order, workshop: Workshop, folder: Path) -> Path | None:
    log = folder / LOG
    with suppress(OSError):  # the disk may be full
        return workshop.store.keep_log(order.fingerprint, log) if log.exists() else None
    return None


def _complete(error: PipelineError, step: Step, *, log: Path | None) -> None:
    """Add to the error which step it is about, and the log that is still there."""
    error.log = log
    if not error.message.startswith(f"{step.key}: "):
        error.message = f"{step.key}: {error.message}"
        error.args = (error.message,)


def _room(order: Order, store: Store) -> Room:
    """What is known of the disk now."""
    return Room(
        folder=store.root, free_bytes=store.free_bytes(), needed_bytes=order.predicted_bytes
    )


def _refuse_too_little_room(order: Order, store: Store) -> None:
    room = _room(order, store)
    if room.needed_bytes is not None and room.needed_bytes > room.free_bytes:
        raise diagnosis.too_little_room(order.step, room)


def _refuse_changed_leaves(step: Step, store: Store) -> None:
    for value in step.inputs.values():
        if isinstance(value, Leaf):
            refuse_changed(value, digests=store.digests)


def _finite(result: Frozen, tool: str) -> dict[str, Any]:
    """The result as JSON, which knows no NaN and no infinity."""
    document = result.model_dump(mode="python")
    try:
        json.dumps(document, allow_nan=False, default=str)
    except ValueError as error:
        raise UnreadableOutputError(tool, "finite figures", (str(document)[:300],)) from error
    dumped: dict[str, Any] = result.model_dump(mode="json")
    return dumped
