"""Which tasks of a set are run: by seed, explicit, the same for everybody."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from llamacpp_pipeline.datasets.task import Task


def chosen(tasks: Sequence[Task], *, n_tasks: int | None, seed: int) -> tuple[Task, ...]:
    """So many of the tasks, or all, in the order in which they are run.

    That order is by the sha256 of seed and id, so it does not depend on the order of the source or
    on any library's generator, a smaller choice is the beginning of a larger one, and a task that
    is added or left out moves no other.
    """
    ordered = sorted(tasks, key=lambda task: place(task.id, seed=seed))
    return tuple(ordered if n_tasks is None else ordered[:n_tasks])


def place(task_id: str, *, seed: int) -> str:
    """What tasks are ordered by."""
    return hashlib.sha256(f"{seed}\0{task_id}".encode()).hexdigest()
