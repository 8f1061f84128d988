"""Why a step failed, for the person: the tool's own words, the cause where it shows, the fix."""

from __future__ import annotations

import errno
import re
import signal
from dataclasses import dataclass
from pathlib import Path

from llamacpp_pipeline.errors import PipelineError, StepFailedError
from llamacpp_pipeline.plan.step import Step
from llamacpp_pipeline.process.command import Outcome
from llamacpp_pipeline.results.record import Machine
from llamacpp_pipeline.stages.llama_log import complaints
from llamacpp_pipeline.units import size_text

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
UNWRITABLE = FULL | {errno.EIO, errno.EROFS, errno.EFBIG}
FULL_TEXT = re.compile(
    r"No space left on device|Disk quota exceeded|iostream error|errno 28\b", re.IGNORECASE
)
FIX = re.compile(r"^\s*fix: (?P<fix>.+?)\s*$", re.MULTILINE)
LAST_LINES = 5
ROOM_HINT = "free some space (`llamacpp-pipeline cache prune`), or name another store: --store DIR"
AGAIN = "read the log; once it is mended, the same command goes on after the last finished step"
SIGNAL_HINTS: dict[int, str] = {
    signal.SIGKILL: "give it more memory or ask for less: a smaller n_batch or n_ubatch, "
    "fewer layers on the GPU, nothing else running beside it",
    signal.SIGILL: "the build uses instructions that this CPU lacks: run `llamacpp-pipeline build`",
}


@dataclass(frozen=True, kw_only=True)
class Room:
    """What is known of the disk: what the step was predicted to write, and what is free."""

    folder: Path
    free_bytes: int
    needed_bytes: int | None

    def words(self) -> str:
        """`about 70.2 GiB needed, 1.4 GiB free in <folder>`."""
        free = f"{size_text(self.free_bytes)} free in {self.folder}"
        if self.needed_bytes is None:
            return free
        return f"about {size_text(self.needed_bytes)} needed, {free}"


def child_failure(
    step: Step, outcome: Outcome, log: str, *, room: Room, machine: Machine
) -> PipelineError:
    """The error of a child that did not end with exit code 0."""
    if says_full(log):
        return disk_full(step, room, evidence=evidence(log))
    explained = step.stage.explain(log)
    if explained is not None:
        return explained
    if outcome.exit_code < 0:
        return _killed(step, outcome, log, machine=machine)
    return StepFailedError(
        f"{step.key}: {step.stage.tool} failed with exit code {outcome.exit_code}",
        evidence=evidence(log),
        hint=fix_in(log) or AGAIN,
    )


def disk_full(step: Step, room: Room, *, evidence: tuple[str, ...]) -> StepFailedError:
    """The error of a step for which there was no room."""
    return StepFailedError(
        f"{step.key}: the disk is full", evidence=(*evidence, room.words()), hint=ROOM_HINT
    )


def too_little_room(step: Step, room: Room) -> StepFailedError:
    """The error of a step that is not started because its output cannot fit."""
    return StepFailedError(
        f"{step.key}: what it writes does not fit on the disk",
        evidence=(room.words(),),
        hint=ROOM_HINT,
    )


def own_failure(step: Step, error: OSError, *, room: Room) -> PipelineError | None:
    """The error of a step whose files the pipeline could not write; None: not the disk's fault."""
    if error.errno in FULL:
        return disk_full(step, room, evidence=(str(error),))
    if error.errno in UNWRITABLE:
        return StepFailedError(
            f"{step.key}: its files cannot be written", evidence=(str(error),), hint=ROOM_HINT
        )
    return None


def evidence(log: str) -> tuple[str, ...]:
    """The tool's error lines, or where it has none the last it said."""
    found = tuple(line for line in complaints(log) if not FIX.match(line))
    if found:
        return found
    lines = [line.strip()[:300] for line in log.splitlines() if line.strip()]
    return tuple(lines[-LAST_LINES:]) or ("it printed nothing",)


def fix_in(log: str) -> str | None:
    """The fix that a tool of this package printed."""
    found = FIX.findall(log)
    return found[-1] if found else None


def says_full(log: str) -> bool:
    """Whether a log blames the disk."""
    return FULL_TEXT.search(log) is not None


def _killed(step: Step, outcome: Outcome, log: str, *, machine: Machine) -> StepFailedError:
    number = -outcome.exit_code
    name = _signal_name(number)
    guess = ", probably because memory ran out" if number == signal.SIGKILL else ""
    memory = (
        f"its peak memory was {size_text(outcome.peak_rss_bytes)} "
        f"of the machine's {size_text(machine.memory_bytes)}"
    )
    return StepFailedError(
        f"{step.key}: {step.stage.tool} was killed by {name}{guess}",
        evidence=(*evidence(log), memory),
        hint=SIGNAL_HINTS.get(number, AGAIN),
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
