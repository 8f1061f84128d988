"""What a plan will take of disk, memory and time: estimates all, and None where unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from llamacpp_pipeline.errors import InputError
from llamacpp_pipeline.plan.lanes import Lanes, elapsed
from llamacpp_pipeline.plan.pace import Job, Timed, digest_of, family_of, guess
from llamacpp_pipeline.plan.probing import (
    advice,
    measured_together,
    passes,
    refined_tokens,
    within_budget,
)
from llamacpp_pipeline.plan.sizes import Known, chunks, file_bytes, output_bytes
from llamacpp_pipeline.plan.sources import Sources
from llamacpp_pipeline.plan.step import Leaf, OutputRef, Plan, Step
from llamacpp_pipeline.stages.base import Lane
from llamacpp_pipeline.stages.curves import CurvesParams
from llamacpp_pipeline.stages.imatrix import ImatrixParams
from llamacpp_pipeline.stages.logits_file import predicted_logits_bytes
from llamacpp_pipeline.stages.perplexity import PerplexityParams
from llamacpp_pipeline.stages.probe import ProbeParams
from llamacpp_pipeline.stages.refine import RefineParams
from llamacpp_pipeline.stages.tasks import TasksParams
from llamacpp_pipeline.units import size_text

LOGIT_BYTES = 4  # llama.cpp keeps a float per token of the vocabulary and position of a batch
TOOL_BYTES = 40 * 2**20  # of a llama.cpp tool with the smallest of models
TEXTS = (PerplexityParams, ImatrixParams, ProbeParams)
ONE_AT_A_TIME = Lanes()
LARGEST = 3  # steps named in a refusal


@dataclass(frozen=True, kw_only=True)
class StepBudget:
    """One step. `done` steps take nothing more; their sizes are what they left."""

    key: str
    stage: str
    done: bool
    output_bytes: int | None
    memory_bytes: int | None
    lane: Lane
    seconds: float | None = None
    basis: str | None = None  # what its time is told by


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A plan's steps, in order. `least` is the time of those to run, as far as it is known."""

    steps: tuple[StepBudget, ...]
    least: float = 0.0
    n_devices: int = 1

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
        """The most that runs at once needs, of what can be predicted; None where nothing can."""
        known = [step for step in self.todo if step.memory_bytes is not None]
        beside = [step.memory_bytes or 0 for step in known if step.lane == "device"]
        together = sum(sorted(beside, reverse=True)[: self.n_devices])
        return max([together, *(step.memory_bytes or 0 for step in known)]) if known else None

    @property
    def unknown_time(self) -> tuple[str, ...]:
        """The stages of which it is not known how long one of their steps will take."""
        return tuple(dict.fromkeys(step.stage for step in self.todo if step.seconds is None))

    @property
    def elapsed(self) -> float | None:
        """The time of all steps to run; None where that of one of them is unknown."""
        return None if self.unknown_time else self.least

    @property
    def bases(self) -> dict[str, tuple[str, ...]]:
        """What the times to come are told by, and of which stages."""
        told = [(step.basis, step.stage) for step in self.todo if step.basis is not None]
        return {
            basis: tuple(dict.fromkeys(stage for other, stage in told if other == basis))
            for basis, _ in told
        }


@dataclass(frozen=True, kw_only=True)
class History:
    """What earlier runs teach."""

    finished: Mapping[str, int] = field(default_factory=dict)  # step key -> bytes it left
    timed: Sequence[Timed] = ()  # steps that were run on this machine
    digests: Mapping[str, str] = field(default_factory=dict)  # step key -> fingerprint
    n_threads: int = 1  # of a step that says nothing of them


NOTHING_YET = History()


def budget(
    plan: Plan, sources: Sources, *, history: History = NOTHING_YET, lanes: Lanes = ONE_AT_A_TIME
) -> Budget:
    """What each step will take, in the plan's order."""
    known = Known(plan=plan, sources=sources, finished=history.finished)
    steps = tuple(predicted(step, known, history, lanes) for step in plan.steps)
    return Budget(
        steps=steps, least=together(plan, steps, lanes), n_devices=max(1, len(lanes.devices))
    )


def together(plan: Plan, steps: Sequence[StepBudget], lanes: Lanes) -> float:
    """The time of the steps to run, each as soon as it can be; what is unknown takes none."""
    todo = {step.key: step.seconds or 0.0 for step in steps if not step.done}
    return elapsed([step for step in plan.steps if step.key in todo], todo, lanes=lanes)


def predicted(step: Step, known: Known, history: History, lanes: Lanes) -> StepBudget:
    """One step."""
    found = guess(job(step, known, history, lanes), history.timed)
    return StepBudget(
        key=step.key,
        stage=step.stage.name,
        done=step.key in known.finished,
        output_bytes=output_bytes(step, known),
        memory_bytes=memory_bytes(step, known),
        lane=step.stage.lane,
        seconds=None if found is None else shortened(found.seconds, step, known),
        basis=None if found is None else found.basis,
    )


def shortened(seconds: float, step: Step, known: Known) -> float:
    """A prediction within the time that the step itself is given."""
    if not isinstance(step.params, ProbeParams):
        return seconds
    return within_budget(seconds, step.params, known.hints)


def job(step: Step, known: Known, history: History, lanes: Lanes) -> Job:
    """A step, as far as its time depends on it."""
    n_chunks, text = chunks(step, known), step.inputs.get("tasks")
    cut = step.params
    tokens = n_chunks * cut.n_ctx if n_chunks and isinstance(cut, TEXTS) else None
    if tokens is not None and isinstance(cut, ProbeParams):
        each = passes(cut, known.hints)
        tokens = None if each is None else tokens * each
    if isinstance(cut, RefineParams):
        tokens = refined_tokens(cut, known.hints)
    steps = {one.key: one for one in known.plan.steps}
    n_threads = step.placement.n_threads or history.n_threads
    share = len(lanes.devices) if lanes.of_cpu and step.stage.lane != "alone" else 1
    return Job(
        stage=step.stage.name,
        family=family_of(step, steps, history.digests),
        tokens=tokens,
        model_bytes=model_bytes(step, known),
        output_bytes=output_bytes(step, known),
        text=None if text is None else digest_of(text, history.digests),
        params=step.params.model_dump(mode="json"),
        n_threads=max(1, n_threads // share),
        measured=measured(step, known),
    )


def measured(step: Step, known: Known) -> int | None:
    """How many errors of tensors at types a step will measure."""
    if not isinstance(step.params, CurvesParams):
        return None
    n_tensors = measured_together(None, known.hints)
    return None if n_tensors is None else n_tensors * len(step.params.types)


def advised(plan: Plan, taken: Budget, sources: Sources) -> tuple[str, ...]:
    """What would shorten a probe that is long beside the rest of the plan; else nothing."""
    todo = {step.key: step.seconds or 0.0 for step in taken.todo}
    known = Known(plan=plan, sources=sources, finished={})
    for step in plan.steps:
        if isinstance(step.params, ProbeParams) and step.key in todo:
            seconds = todo[step.key]
            others = sum(todo.values()) - seconds
            return tuple(
                advice(
                    step.params,
                    sources.hints,
                    seconds=seconds,
                    others=others,
                    n_chunks=chunks(step, known),
                )
            )
    return ()


def model_bytes(step: Step, known: Known) -> int | None:
    """The size of the model a step reads: a folder's tensors, or a GGUF."""
    model = step.inputs.get("model")
    if isinstance(model, Leaf):
        return model.size_bytes
    if not isinstance(model, OutputRef):
        return None
    return file_bytes(known.plan.step(model.step), known)


def memory_bytes(step: Step, known: Known) -> int | None:
    """What a step that computes with a GGUF needs; of the others nothing is said."""
    weights = model_bytes(step, known)
    if step.stage.name == "bench":
        return None if weights is None else weights + TOOL_BYTES
    params, vocabulary = step.params, known.hints.vocab_size
    if not isinstance(params, (*TEXTS, TasksParams, RefineParams)):
        return None
    if weights is None or vocabulary is None:
        return None
    if isinstance(params, TasksParams):  # all positions' logits are kept, and a batch's beside them
        context = params.n_ctx * params.n_parallel
        return weights + (context + min(params.n_batch, context)) * vocabulary * LOGIT_BYTES
    positions = max(params.n_batch, params.n_ctx) + params.n_ubatch
    positions += kept_chunks(step, known) * (params.n_ctx - 1 - params.n_ctx // 2)
    return weights + positions * vocabulary * LOGIT_BYTES + TOOL_BYTES


def kept_chunks(step: Step, known: Known) -> int:
    """Chunks of text for which the reference's answers are kept in memory."""
    if isinstance(step.params, RefineParams):
        most = (step.params.n_chunks or 0) << step.params.rounds
        return max(most, step.params.validation_chunks)
    return (chunks(step, known) or 0) if isinstance(step.params, ProbeParams) else 0


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
