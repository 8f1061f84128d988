"""What a plan will take of disk, memory and time: estimates all, and None where unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llamacpp_pipeline.errors import InputError
from llamacpp_pipeline.plan.sizes import Known, chunks, output_bytes
from llamacpp_pipeline.plan.sources import Sources
from llamacpp_pipeline.plan.step import Leaf, OutputRef, Plan, Step
from llamacpp_pipeline.stages.imatrix import ImatrixParams
from llamacpp_pipeline.stages.logits_file import predicted_logits_bytes
from llamacpp_pipeline.stages.perplexity import PerplexityParams
from llamacpp_pipeline.units import size_text

LOGIT_BYTES = 4  # llama.cpp keeps a float per token of the vocabulary and position of a batch
TOOL_BYTES = 40 * 2**20  # of a llama.cpp tool with the smallest of models
LARGEST = 3  # steps named in a refusal


@dataclass(frozen=True, kw_only=True)
class StepBudget:
    """One step. `done` steps take nothing more; their sizes are what they left."""

    key: str
    stage: str
    done: bool
    output_bytes: int | None
    memory_bytes: int | None
    work: float | None  # what its time is proportional to, comparable within a stage
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A plan's steps, in order."""

    steps: tuple[StepBudget, ...]

    @property
    def todo(self) -> tuple[StepBudget, ...]:
        """The steps that will run."""
        return tuple(step for step in self.steps if not step.done)

    @property
    def peak_disk_bytes(self) -> int:
        """What the store grows by, of the steps whose size is known.

        Nothing is deleted during a run, so the peak is at its end.
        """
        return sum(step.output_bytes or 0 for step in self.todo)

    @property
    def unknown_disk(self) -> tuple[str, ...]:
        """The steps that will write something of unknown size, not in the peak."""
        return tuple(step.key for step in self.todo if step.output_bytes is None)

    @property
    def peak_memory_bytes(self) -> int | None:
        """The most that one step needs, of those that can be predicted; None where none can."""
        needs = [step.memory_bytes for step in self.todo if step.memory_bytes is not None]
        return max(needs, default=None)

    @property
    def seconds(self) -> float | None:
        """The time of all steps to run; None where that of one of them is unknown."""
        times = [step.seconds for step in self.todo]
        return None if None in times else sum(time for time in times if time is not None)


@dataclass(frozen=True, kw_only=True)
class History:
    """What earlier runs teach."""

    finished: Mapping[str, int] = field(default_factory=dict)  # step key -> bytes it left
    rates: Mapping[str, float] = field(default_factory=dict)  # stage -> seconds per unit of work


NOTHING_YET = History()


def budget(plan: Plan, sources: Sources, *, history: History = NOTHING_YET) -> Budget:
    """What each step will take, in the plan's order."""
    known = Known(plan=plan, sources=sources, finished=history.finished)
    return Budget(steps=tuple(predicted(step, known, history.rates) for step in plan.steps))


def predicted(step: Step, known: Known, rates: Mapping[str, float]) -> StepBudget:
    """One step."""
    effort, rate = work(step, known), rates.get(step.stage.name)
    return StepBudget(
        key=step.key,
        stage=step.stage.name,
        done=step.key in known.finished,
        output_bytes=output_bytes(step, known),
        memory_bytes=memory_bytes(step, known),
        work=effort,
        seconds=None if effort is None or rate is None else effort * rate,
    )


def model_bytes(step: Step, known: Known) -> int | None:
    """The size of the model a step reads: a folder's tensors, or a GGUF."""
    model = step.inputs.get("model")
    if isinstance(model, Leaf):
        return model.size_bytes
    if not isinstance(model, OutputRef):
        return None
    return output_bytes(known.plan.step(model.step), known)


def memory_bytes(step: Step, known: Known) -> int | None:
    """What a step that computes with a GGUF needs; of the others nothing is said."""
    weights = model_bytes(step, known)
    if step.stage.name == "bench":
        return None if weights is None else weights + TOOL_BYTES
    params, vocabulary = step.params, known.hints.vocab_size
    if not isinstance(params, (PerplexityParams, ImatrixParams)):
        return None
    if weights is None or vocabulary is None:
        return None
    positions = max(params.n_batch, params.n_ctx) + params.n_ubatch
    return weights + positions * vocabulary * LOGIT_BYTES + TOOL_BYTES


def work(step: Step, known: Known) -> float | None:
    """What a step's time is proportional to: weights read, times the tokens they are used on."""
    if "model" not in step.inputs:
        size = output_bytes(step, known)
        return None if size is None else float(size)
    weights = model_bytes(step, known)
    if weights is None:
        return None
    if not isinstance(step.params, (PerplexityParams, ImatrixParams)):
        return float(weights)
    n_chunks = chunks(step, known)
    return None if n_chunks is None else float(weights) * n_chunks * step.params.n_ctx


def rates(taken: Budget, *, seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds per unit of work of each stage, from the steps that were timed (by their key)."""
    spent: dict[str, float] = {}
    done: dict[str, float] = {}
    for step in taken.steps:
        if step.key in seconds and step.work:
            spent[step.stage] = spent.get(step.stage, 0.0) + seconds[step.key]
            done[step.stage] = done.get(step.stage, 0.0) + step.work
    return {stage: spent[stage] / done[stage] for stage in spent}


def refuse_what_cannot_fit(taken: Budget, *, plan: Plan, sources: Sources, free_bytes: int) -> None:
    """Say so before anything runs.

    Raises:
        InputError: where the steps to run need more disk than is free, with what to change.

    """
    needed = taken.peak_disk_bytes
    if needed <= free_bytes:
        return
    largest = sorted(taken.todo, key=lambda step: step.output_bytes or 0, reverse=True)[:LARGEST]
    raise InputError(
        f"this run needs about {size_text(needed)} of disk for its store and"
        f" {size_text(free_bytes)} are free",
        evidence=[f"{step.key}: about {size_text(step.output_bytes or 0)}" for step in largest],
        hint=remedy(taken, plan=plan, sources=sources, free_bytes=free_bytes),
    )


def remedy(taken: Budget, *, plan: Plan, sources: Sources, free_bytes: int) -> str:
    """What to change: fewer chunks where the logits are what does not fit, or another disk."""
    elsewhere = "put the store on another disk: --store DIR, or STORE=DIR with make"
    n_chunks = chunks_that_fit(taken, plan=plan, sources=sources, free_bytes=free_bytes)
    if n_chunks is None:
        return f"{elsewhere}; or free some: `llamacpp-pipeline cache prune`"
    return f"measure on fewer chunks: --set evaluation.n_chunks={n_chunks}; or {elsewhere}"


def chunks_that_fit(taken: Budget, *, plan: Plan, sources: Sources, free_bytes: int) -> int | None:
    """How many chunks of reference logits fit beside all else; None where not even one does."""
    todo = {step.key: step.output_bytes for step in taken.todo}
    logits, vocabulary = todo.get("reference"), sources.hints.vocab_size
    if logits is None or vocabulary is None:
        return None
    params = plan.step("reference").params
    if not isinstance(params, PerplexityParams):
        return None
    one = predicted_logits_bytes(n_vocab=vocabulary, n_ctx=params.n_ctx, n_chunks=1)
    rest = free_bytes - (taken.peak_disk_bytes - logits)
    return rest // one or None if rest > 0 else None
