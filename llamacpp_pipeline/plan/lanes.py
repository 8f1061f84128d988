"""Which step may start beside those that run: pure, so that `plan` predicts what `run` does."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from llamacpp_pipeline.plan.order import needs
from llamacpp_pipeline.plan.step import Step

HOST = "host"  # the place of steps that compute without a GPU, beside GPUs that measure
ALL = "all"  # the place of a step that nothing else may run beside
CPU = "cpu"


@dataclass(frozen=True, kw_only=True)
class Lanes:
    """The devices, by name; none: one step at a time.

    CPU slots share one machine, so there whatever may run beside something takes a slot.
    """

    devices: tuple[str, ...] = ()

    @property
    def of_cpu(self) -> bool:
        """Whether the devices are shares of the CPU."""
        return any(name.startswith(CPU) for name in self.devices)

    def place(self, step: Step, busy: Collection[str]) -> str | None:
        """Where a step can run now; None where it has to wait."""
        lane = step.stage.lane
        if lane == "alone" or not self.devices:
            return None if busy else ALL
        if ALL in busy:
            return None
        if lane == "host" and not self.of_cpu:
            return None if HOST in busy else HOST
        return next((name for name in self.devices if name not in busy), None)


def startable(
    waiting: Sequence[Step], *, over: Collection[str], busy: Mapping[str, str], lanes: Lanes
) -> tuple[Step, str] | None:
    """The first step that can start now, and its place.

    What fills the machine waits until nothing else can start: a device that is idle while others
    measure is time lost.

    Args:
        waiting: The steps that were not started, in the plan's order.
        over: The keys of the steps that have ended, well or not.
        busy: Place to the key of the step that runs there.
        lanes: The devices.

    """
    ready = [step for step in waiting if all(key in over for key in needs(step))]
    for step in sorted(ready, key=lambda step: step.stage.lane == "alone"):
        place = lanes.place(step, busy)
        if place is not None:
            return step, place
    return None


def elapsed(steps: Sequence[Step], seconds: Mapping[str, float], *, lanes: Lanes) -> float:
    """How long the steps take together, by how long each takes; what is not named takes no time."""
    waiting, over = list(steps), {key for step in steps for key in needs(step)}
    over -= {step.key for step in steps}
    busy: dict[str, str] = {}
    ends: dict[str, float] = {}
    now = 0.0
    while waiting or busy:
        found = startable(waiting, over=over, busy=busy, lanes=lanes)
        if found is not None:
            step, place = found
            waiting.remove(step)
            busy[place], ends[place] = step.key, now + seconds.get(step.key, 0.0)
            continue
        place = min(ends, key=lambda name: ends[name])
        now = ends.pop(place)
        over.add(busy.pop(place))
    return now
