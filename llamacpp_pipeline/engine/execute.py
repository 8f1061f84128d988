"""A plan run: each step taken from the store, or made; what failed does not stop what can go on."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from llamacpp_pipeline.engine.choice import EVERYTHING, Choice, chosen, named
from llamacpp_pipeline.engine.devices import Device
from llamacpp_pipeline.engine.events import (
    Begun,
    Done,
    Ended,
    Failed,
    Hit,
    Reporter,
    Serial,
    Skipped,
    Waiting,
)
from llamacpp_pipeline.engine.make import Order, Timesheet, Workshop, make
from llamacpp_pipeline.engine.schedule import at_once
from llamacpp_pipeline.engine.store import Entry
from llamacpp_pipeline.errors import InterruptedRunError, PipelineError
from llamacpp_pipeline.plan.order import needs
from llamacpp_pipeline.plan.step import Plan, Step
from llamacpp_pipeline.process.signals import stopping_as_interrupt
from llamacpp_pipeline.results.record import StepRecord

Status = Literal["hit", "done", "failed", "skipped"]


@dataclass(frozen=True, kw_only=True)
class StepOutcome:
    """What came of one step."""

    key: str
    status: Status
    entry: Entry | None = None
    error: PipelineError | None = None
    because: str | None = None  # of a skipped step: the one that failed


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """What came of a run."""

    outcomes: tuple[StepOutcome, ...]
    seconds: float
    child_seconds: float  # the wall time that children ran

    @property
    def entries(self) -> dict[str, Entry]:
        """The finished steps in the store, by their keys."""
        return {o.key: o.entry for o in self.outcomes if o.entry is not None}

    @property
    def records(self) -> dict[str, StepRecord]:
        """The records of the finished steps, by their keys."""
        return {key: entry.record for key, entry in self.entries.items()}

    @property
    def failures(self) -> tuple[PipelineError, ...]:
        """The errors of the steps that failed, first come first."""
        return tuple(o.error for o in self.outcomes if o.error is not None)

    @property
    def exit_code(self) -> int:
        """0, or that of the first failure."""
        return self.failures[0].exit_code if self.failures else 0

    def count(self, status: Status) -> int:
        """The number of steps that ended so."""
        return sum(outcome.status == status for outcome in self.outcomes)

    def summary(self) -> str:
        """One sentence: what was made, what was there, what failed."""
        if self.outcomes and self.count("hit") == len(self.outcomes):
            return f"nothing to do: all {len(self.outcomes)} steps are in the store"
        made, hits = self.count("done"), self.count("hit")
        parts = [f"{made} steps made", f"{hits} taken from the store"]
        parts += [f"{n} {s}" for s in ("failed", "skipped") if (n := self.count(s))]
        failed = [outcome.key for outcome in self.outcomes if outcome.status == "failed"]
        return ", ".join(parts) + (f"; see above why: {', '.join(failed)}" if failed else "")


def execute(
    plan: Plan,
    *,
    fingerprints: Mapping[str, str],
    workshop: Workshop,
    reporter: Reporter,
    choice: Choice = EVERYTHING,
    predicted: Mapping[str, int] | None = None,
) -> RunReport:
    """Run the steps of a plan in order; with several devices, as many at once as those allow.

    A step that fails is reported; steps that need it are skipped, the others go on.
    `predicted` says, by key, how many bytes a step will write.

    Raises:
        InterruptedRunError: on Ctrl-C or SIGTERM; finished steps are kept.
        UsageError: where `choice` names what is not there.

    """
    steps, rerun = chosen(plan, choice.only), named(plan, choice.rerun)
    run = _Run(fingerprints, workshop, Serial(reporter), predicted or {})
    with stopping_as_interrupt(), workshop.store.in_use([fingerprints[s.key] for s in steps]):
        try:
            with run.told(len(steps)):
                outcomes = run.steps(steps, rerun=rerun)
        except (KeyboardInterrupt, InterruptedRunError) as error:
            raise _interrupted(error) from None
    return RunReport(outcomes=outcomes, seconds=run.seconds(), child_seconds=run.timesheet.seconds)


class _Run:
    """The state of a run between its steps."""

    def __init__(
        self,
        fingerprints: Mapping[str, str],
        workshop: Workshop,
        reporter: Reporter,
        predicted: Mapping[str, int],
    ) -> None:
        self.timesheet = Timesheet()
        self._started = time.monotonic()
        self._store = workshop.store
        self._fingerprints = fingerprints
        self._workshop = workshop
        self._reporter = reporter
        self._predicted = predicted
        self._devices = workshop.devices
        self._entries: dict[str, Entry] = {}
        self._lost: dict[str, str] = {}  # key -> the failed step because of which it is not there

    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._started

    @contextmanager
    def told(self, n_steps: int) -> Iterator[None]:
        """The reporter hears of the run's begin and of its end, however it ends."""
        self._reporter.tell(Begun(n_steps=n_steps))
        interrupted = True
        try:
            yield
            interrupted = False
        finally:
            self._reporter.tell(
                Ended(
                    seconds=self.seconds(),
                    child_seconds=self.timesheet.seconds,
                    interrupted=interrupted,
                )
            )

    def steps(self, steps: Sequence[Step], *, rerun: Collection[str]) -> tuple[StepOutcome, ...]:
        """All of them, each as soon as it can be; outcomes in their order."""
        if not self._devices.each:
            return tuple(self.step(step, anew=step.key in rerun) for step in steps)

        def work(step: Step, place: str) -> StepOutcome:
            return self.step(step, anew=step.key in rerun, device=self._devices.at(place))

        return at_once(
            steps,
            work,
            lanes=self._devices.lanes,
            fingerprints=self._fingerprints,
            stop=self._workshop.stop,
        )

    def step(self, step: Step, *, anew: bool, device: Device | None = None) -> StepOutcome:
        """Take the step from the store, or make it; skip it where what it needs is lost."""
        cause = next((self._lost[key] for key in needs(step) if key in self._lost), None)
        if cause is not None:
            self._lost[step.key] = cause
            self._reporter.tell(Skipped(step=step, because=cause))
            return StepOutcome(key=step.key, status="skipped", because=cause)
        try:
            outcome = self._looked_up(step, anew=anew) or self._claimed(step, device, anew=anew)
        except InterruptedRunError:
            raise
        except PipelineError as error:
            self._lost[step.key] = step.key
            self._reporter.tell(Failed(step=step, error=error))
            return StepOutcome(key=step.key, status="failed", error=error)
        return outcome

    def _looked_up(self, step: Step, *, anew: bool) -> StepOutcome | None:
        return None if anew else self._hit(step, self._store.entry(self._of(step)))

    def _claimed(self, step: Step, device: Device | None, *, anew: bool) -> StepOutcome:
        """Look, lock, look again: what another process made meanwhile is taken."""

        def waiting() -> None:
            self._reporter.tell(Waiting(step=step))

        with self._store.claimed(self._of(step), waiting=waiting, stop=self._workshop.stop):
            found = None if anew else self._store.entry_under_lock(self._of(step))
            return self._hit(step, found) or self._made(step, device)

    def _hit(self, step: Step, entry: Entry | None) -> StepOutcome | None:
        if entry is None:
            return None
        self._store.touch(entry)
        self._entries[step.key] = entry
        self._reporter.tell(Hit(step=step, record=entry.record))
        return StepOutcome(key=step.key, status="hit", entry=entry)

    def _made(self, step: Step, device: Device | None) -> StepOutcome:
        order = Order(
            step=step if device is None else device.placed(step),
            device=None if device is None else device.name,
            confined={} if device is None else device.environment,
            fingerprint=self._of(step),
            entries=self._entries,
            predicted_bytes=self._predicted.get(step.key),
        )
        entry = make(order, self._workshop, self._reporter, self.timesheet)
        self._entries[step.key] = entry
        self._reporter.tell(Done(step=step, record=entry.record))
        return StepOutcome(key=step.key, status="done", entry=entry)

    def _of(self, step: Step) -> str:
        return self._fingerprints[step.key]


def _interrupted(error: BaseException) -> InterruptedRunError:
    return InterruptedRunError(
        "the run was interrupted",
        evidence=(error.message,) if isinstance(error, InterruptedRunError) else (),
        log=error.log if isinstance(error, InterruptedRunError) else None,
        hint="run the same command again: finished steps are kept",
    )
