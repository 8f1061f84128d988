"""Several steps at once, one per device: threads that wait for children, told what to do here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from llamacpp_pipeline.plan.lanes import Lanes, startable
from llamacpp_pipeline.plan.step import Step

T = TypeVar("T")
Work = Callable[[Step, str], T]  # a step and its place


@dataclass(kw_only=True)
class _Board(Generic[T]):
    """What waits, what runs where, and what came of the rest."""

    waiting: list[Step]
    lanes: Lanes
    fingerprints: Mapping[str, str]
    busy: dict[str, str] = field(default_factory=dict)
    running: dict[Future[T], str] = field(default_factory=dict)  # to its place
    results: dict[str, T] = field(default_factory=dict)

    def next(self) -> tuple[Step, str] | None:
        """The next step to start; never one that is the same as one that runs."""
        made = {self.fingerprints[key] for key in self.busy.values()}
        waiting = [step for step in self.waiting if self.fingerprints[step.key] not in made]
        return startable(waiting, over=self.results.keys(), busy=self.busy, lanes=self.lanes)

    def start(self, step: Step, place: str, future: Future[T]) -> None:
        self.waiting.remove(step)
        self.busy[place], self.running[future] = step.key, place

    def end(self, future: Future[T]) -> None:
        """Take over what came of a step.

        Raises:
            BaseException: whatever the step's work raised.

        """
        self.results[self.busy.pop(self.running.pop(future))] = future.result()


def at_once(
    steps: Sequence[Step],
    work: Work[T],
    *,
    lanes: Lanes,
    fingerprints: Mapping[str, str],
    stop: threading.Event,
) -> tuple[T, ...]:
    """Do the work of every step, those first that the plan has first; results in its order.

    Where one raises, or this thread is interrupted, `stop` is set, and what runs is waited for.
    """
    board: _Board[T] = _Board(waiting=list(steps), lanes=lanes, fingerprints=fingerprints)
    with ThreadPoolExecutor(max_workers=len(lanes.devices) + 1) as pool:
        try:
            while board.waiting or board.running:
                while (found := board.next()) is not None:
                    board.start(*found, pool.submit(work, *found))
                done, _ = wait(board.running, return_when=FIRST_COMPLETED)
                for future in done:
                    board.end(future)
        except BaseException:
            stop.set()
            raise
    return tuple(board.results[step.key] for step in steps)
