"""A plan for people and for programs: each step, hit or why not, and what it will take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llamacpp_pipeline.engine.prepare import Prepared
from llamacpp_pipeline.plan.budget import Budget, StepBudget, advised
from llamacpp_pipeline.plan.targets import wish
from llamacpp_pipeline.report.terminal import aligned
from llamacpp_pipeline.results.record import StepRecord
from llamacpp_pipeline.units import duration_text, size_text

UNKNOWN = "unknown"
MOST_REASONS = 3


@dataclass(frozen=True, kw_only=True)
class PlanView:
    """A plan with what the store has of it."""

    prepared: Prepared
    hits: Mapping[str, StepRecord]
    budget: Budget
    out: Path

    def reasons(self, key: str) -> tuple[str, ...]:
        """Why a step is a miss; the steps before it explain themselves."""
        changes = self.prepared.why_missing(key, out=self.out)
        own = tuple(change for change in changes if not change.startswith("inputs."))
        if own:
            return own
        missing = [need for need in self.needs(key) if need not in self.hits]
        if missing:
            return (f"after {', '.join(missing)}",)
        return changes or ("not made yet",)

    def needs(self, key: str) -> tuple[str, ...]:
        """The steps whose outputs a step takes."""
        inputs = self.prepared.plan.step(key).inputs.values()
        return tuple(dict.fromkeys(v.step for v in inputs if hasattr(v, "step")))

    def wish(self, key: str) -> str | None:
        """What a file by size is asked for."""
        return wish(self.prepared.plan.step(key))

    def text(self, *, explain: bool = False) -> str:
        """The table and the totals."""
        rows: list[tuple[str, ...]] = [("step", "state", "disk", "memory", "time", "why")]
        rows += [self.row(step, explain=explain) for step in self.budget.steps]
        return "\n".join((aligned(rows, text_columns=(0, 1, 5)), "", *self.totals())) + "\n"

    def row(self, step: StepBudget, *, explain: bool) -> tuple[str, ...]:
        """One step."""
        if step.done:
            record = self.hits[step.key]
            took = f"took {duration_text(record.seconds)}"
            asked = self.wish(step.key) or ""
            return (step.key, "hit", size_text(step.output_bytes or 0), "", took, asked)
        reasons = self.reasons(step.key)
        shown = reasons if explain else reasons[:MOST_REASONS]
        more = f" (+{len(reasons) - len(shown)}: --explain)" if len(shown) < len(reasons) else ""
        return (
            step.key,
            "to do",
            about(step.output_bytes, size_text),
            about(step.memory_bytes, size_text),
            about(step.seconds, duration_text),
            "; ".join(part for part in (self.wish(step.key), *shown) if part) + more,
        )

    def totals(self) -> Iterator[str]:
        """What the rest will take of this machine."""
        todo, store = self.budget.todo, self.prepared.store
        if not todo:
            yield f"nothing to do: all {len(self.budget.steps)} steps are in the store"
            return
        yield f"{len(todo)} of {len(self.budget.steps)} steps to do; estimates:"
        disk = f"  disk    {about(self.budget.peak_disk_bytes, size_text)} at the end, its peak"
        unknown = self.budget.unknown_disk
        more = f", and what {', '.join(unknown)} will write" if unknown else ""
        yield f"{disk}{more}; {size_text(store.free_bytes())} free where the store is"
        memory = self.budget.peak_memory_bytes
        yield f"  memory  {about(memory, size_text)} at the most demanding step"
        yield f"  time    {self.time()}{self.at_once()}"
        for basis, stages in self.budget.bases.items():
            yield f"          from {basis} on this machine: {', '.join(stages)}"
        if self.advice:
            yield "  the probe takes long beside the other steps:"
            yield from (f"          {line}" for line in self.advice)

    @property
    def advice(self) -> tuple[str, ...]:
        """What would shorten a probe that takes long."""
        return advised(self.prepared.plan, self.budget, self.prepared.sources)

    def time(self) -> str:
        """What it will take, as far as that is known."""
        unknown = self.budget.unknown_time
        if not unknown:
            return about(self.budget.elapsed, duration_text)
        if not self.budget.least:
            return UNKNOWN
        least = about(self.budget.least, duration_text)
        return f"{least} and that of {', '.join(unknown)}, which is {UNKNOWN}"

    def at_once(self) -> str:
        """How many steps run beside each other."""
        devices = self.prepared.loaded.config.placement.devices
        return f", {len(devices)} at once ({', '.join(map(str, devices))})" if devices else ""

    def document(self) -> dict[str, Any]:
        """The same as JSON: sizes in bytes, times in seconds, null where unknown."""
        steps = [
            {
                "step": step.key,
                "stage": step.stage,
                "fingerprint": self.prepared.fingerprints[step.key],
                "hit": step.done,
                "asked": self.wish(step.key),
                "why": [] if step.done else list(self.reasons(step.key)),
                "output_bytes": step.output_bytes,
                "memory_bytes": step.memory_bytes,
                "seconds": step.seconds,
                "seconds_from": step.basis,
            }
            for step in self.budget.steps
        ]
        return {
            "model": self.prepared.loaded.config.model.label,
            "steps": steps,
            "disk_bytes": self.budget.peak_disk_bytes,
            "disk_unknown": list(self.budget.unknown_disk),
            "disk_free_bytes": self.prepared.store.free_bytes(),
            "memory_bytes": self.budget.peak_memory_bytes,
            "seconds": self.budget.elapsed,
            "advice": list(self.advice),
        }


def about(value: float | None, text: Callable[[float], str]) -> str:
    """An estimate, or that there is none."""
    return UNKNOWN if value is None else f"about {text(value)}"
