"""How long a step will take, by how long such steps took on this machine, and how that is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llamacpp_pipeline.plan.step import Input, Leaf, Step

SAME_MODEL = "earlier steps of this model"
SAME_WORK = "other steps of this model"
BENCH = "its llama-bench speed"
OTHER_MODELS = "steps of other models"
BY_TEXT = frozenset({"tasks"})  # stages whose time is told by what they read, not by its size
BY_OUTPUT = frozenset({"fetch", "fetch-url"})
AT_ONCE = frozenset(
    {
        *("select", "dataset", "check-texts", "check-selection", "check-probe", "sensitivity"),
        "merge-imatrix",
    }
)  # soon over
AS_ASKED = frozenset({"bench"})  # stages whose parameters say how much they do
# Stages that do the same work on the same model: passes over a text, or measured types.
KIN = (
    frozenset({"probe", "refine", "kld", "reference", "perplexity", "imatrix"}),
    frozenset({"curves", "quantize-target"}),
)
COUNTED = frozenset({"curves"})  # stages whose time is told by how many errors they measure


@dataclass(frozen=True, kw_only=True)
class Timed:
    """A step that was run on this machine."""

    stage: str
    seconds: float
    family: str | None  # digest of the checkpoint behind the model it used
    tokens: int | None = None  # of a text that it computed
    model_bytes: int | None = None
    output_bytes: int = 0
    text: str | None = None  # digest of what else it read
    params: Mapping[str, Any] = field(default_factory=dict)
    n_threads: int = 1
    prompt_speed: float | None = None  # of a bench: tokens per second
    measured: int | None = None  # errors of a tensor at a type


@dataclass(frozen=True, kw_only=True)
class Job:
    """A step to come, as far as its time depends on it."""

    stage: str
    family: str | None
    tokens: int | None
    model_bytes: int | None
    output_bytes: int | None
    text: str | None
    params: Mapping[str, Any]
    n_threads: int
    measured: int | None = None


@dataclass(frozen=True, kw_only=True)
class Guess:
    """How long it will take."""

    seconds: float
    basis: str  # where that is from


def guess(job: Job, timed: Sequence[Timed]) -> Guess | None:
    """By the best there is: this model's own steps, its bench, other models' steps; else None.

    Of the model's own steps those of the stage count before those that do the same work.
    """
    alike = [one for one in timed if one.stage == job.stage and _alike(one, job)]
    own = [one for one in alike if one.family == job.family and job.family is not None]
    for basis, found in (
        (SAME_MODEL, _seconds(job, own)),
        (SAME_WORK, _seconds(job, _kin(job, timed))),
        (BENCH, _by_bench(job, timed)),
        (OTHER_MODELS, _seconds(job, alike, scaled=True)),
    ):
        if found is not None:
            return Guess(seconds=found, basis=basis)
    return None


def _kin(job: Job, timed: Sequence[Timed]) -> list[Timed]:
    """Steps of other stages that did the same work: on the very file, where there are such."""
    stages = next((kin for kin in KIN if job.stage in kin), frozenset())
    found = [
        one
        for one in timed
        if one.stage in stages and one.family == job.family and job.family is not None
    ]
    same = [one for one in found if one.model_bytes == job.model_bytes]
    return same or found


def _alike(one: Timed, job: Job) -> bool:
    if job.stage in BY_TEXT:
        return one.text == job.text
    return job.stage not in AS_ASKED or one.params == job.params


def _seconds(job: Job, done: Sequence[Timed], *, scaled: bool = False) -> float | None:
    """As much longer as there is more to do, over all of them together.

    Of a text the tokens count, and between models their bytes too; of what computes no text the
    bytes of the model, of a download those that arrive. What is left takes as long as it did.
    """
    if job.stage in BY_TEXT and not scaled:
        return sum(one.seconds for one in done) / len(done) if done else None
    unit, amount = _amount(job, of=job.stage, scaled=scaled)
    measured = ((one, *_amount(one, of=job.stage, scaled=scaled)) for one in done)
    known = [(one, size) for one, other, size in measured if other == unit and size]
    if not amount or not known:
        return None
    spent = sum(one.seconds * one.n_threads / job.n_threads for one, _ in known)
    return amount * spent / sum(size for _, size in known)


def _amount(one: Timed | Job, *, of: str, scaled: bool) -> tuple[str, float | None]:
    """How much there is to do for a stage, and in what unit; different units do not compare."""
    if of in COUNTED and one.measured is not None:
        return "measured", one.measured
    if one.tokens is not None:
        bytes_each = one.model_bytes if scaled else 1
        return "tokens", None if bytes_each is None else one.tokens * bytes_each
    if one.stage in BY_OUTPUT:
        return "bytes", one.output_bytes
    return ("times", 1.0) if one.stage in AT_ONCE else ("bytes", one.model_bytes)


def _by_bench(job: Job, timed: Sequence[Timed]) -> float | None:
    speeds = [
        one.prompt_speed / one.n_threads
        for one in timed
        if one.prompt_speed is not None and one.family == job.family and job.family is not None
    ]
    if job.tokens is None or not speeds:
        return None
    return job.tokens / (job.n_threads * sum(speeds) / len(speeds))


def family_of(step: Step, steps: Mapping[str, Step], digests: Mapping[str, str]) -> str | None:
    """The digest of the checkpoint behind a step's model, back through what made that."""
    for one in ancestry(step, steps):
        if one.stage.name == "convert":
            return digest_of(one.inputs["model"], digests)
    return None


def ancestry(step: Step, steps: Mapping[str, Step]) -> Iterator[Step]:
    """The step, and each that made the model of the one before."""
    at: Step | None = step
    while at is not None:
        yield at
        model = model_input(at.inputs)
        at = steps.get(model.step) if model is not None and not isinstance(model, Leaf) else None


def model_input(inputs: Mapping[str, Input]) -> Input | None:
    """The input that is the model, or the first of several candidates."""
    return inputs.get("model") or inputs.get("gguf1")


def digest_of(value: Input, digests: Mapping[str, str]) -> str | None:
    """What an input is known by in records."""
    return value.digest if isinstance(value, Leaf) else digests.get(value.step)
