"""The plan: steps and what they need, decided before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llamacpp_pipeline.stages.base import Frozen, Placement, ToolStage

RECORD = "record"


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """Something given, known by its content: a corpus, a model folder, an imatrix file."""

    digest: str  # sha256 of the file; of a folder: over its sorted names and digests
    path: Path
    label: str  # for people and for the record: "wiki.test.raw"; never hashed
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class OutputRef:
    """One output of another step, or one file inside it where it is a folder.

    The output RECORD is what the step found out: its record, with its result in it.
    """

    step: str
    output: str
    member: str | None = None


Input = Leaf | OutputRef
ANYWHERE = Placement()
RECORD = "record"


@dataclass(frozen=True, kw_only=True)
class Step:
    """A stage with its parameters and inputs. `key` names it in this plan and is not hashed."""

    key: str  # "quantize/Q4_K_M"
    stage: ToolStage[Any, Any]
    params: Frozen
    inputs: Mapping[str, Input]
    after: tuple[str, ...] = ()  # steps that must have succeeded, whose outputs are not used
    placement: Placement = ANYWHERE
    labels: Mapping[str, str | int] = field(default_factory=dict)  # written into what it makes


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Steps in an order in which they can run."""

    steps: tuple[Step, ...]

    def step(self, key: str) -> Step:
        """The step of that key.

        Raises:
            KeyError: where no step has it.

        """
        return next(step for step in self.steps if step.key == key)
