"""Scores on evaluation sets: what they were measured under, and each file's own."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import NonNegativeInt, PositiveInt

from llamacpp_pipeline.config.task_sets import TaskSet, task_sets
from llamacpp_pipeline.datasets.task import Form
from llamacpp_pipeline.plan.datasets import step_of
from llamacpp_pipeline.plan.step import OutputRef
from llamacpp_pipeline.plan.tasks import TASKS, score_of
from llamacpp_pipeline.results.documented import Documented
from llamacpp_pipeline.results.mixing import mixed, refuse_different
from llamacpp_pipeline.results.run import RunRecords
from llamacpp_pipeline.results.statistics import mean_error, wilson
from llamacpp_pipeline.stages.answer_bits import unpacked
from llamacpp_pipeline.stages.dataset import DatasetResult, RowNote
from llamacpp_pipeline.stages.fetch import STAGE as FETCH_STAGE
from llamacpp_pipeline.stages.fetch import FetchResult
from llamacpp_pipeline.stages.tasks import Order, TasksParams, TasksResult
from llamacpp_pipeline.units import Estimate


class TaskScore(Documented):
    """One file's score on one evaluation set."""

    set: str
    """The set's name."""
    n_tasks: PositiveInt
    """Tasks answered: all that were chosen."""
    n_correct: NonNegativeInt
    """Tasks answered right."""
    score: Estimate
    """Percent answered right, with the standard error that llama-perplexity prints; of HellaSwag,
    for which it prints none, by the same formula."""
    low: float
    """Lower end of the 95 % Wilson interval, percent."""
    high: float
    """Upper end of it."""
    correct: str
    """A bit for each task, 1 where it was answered right, in hexadecimal: the first task is the
    highest bit of the first digit. The set's `order` says which order that is."""

    def answers(self) -> tuple[bool, ...]:
        """Whether each task was answered right.

        Raises:
            ValueError: where `correct` is not the answers to so many tasks.

        """
        return unpacked(self.correct, self.n_tasks)


class TaskConditions(Documented):
    """What the scores on one set depend on besides the file measured."""

    name: str
    """The set's name."""
    title: str
    """Its name in tables."""
    form: Form
    """How llama-perplexity was given it: --hellaswag, --winogrande or --multiple-choice."""
    template: str
    """Name of the prompt template."""
    template_version: PositiveInt
    """Its version."""
    sources: tuple[str, ...]
    """sha256 of each published file that the tasks come from."""
    datasets: tuple[str, ...] = ()
    """Dataset repositories of the Hub that they come from, each with its commit: repo@commit."""
    sha256: str
    """sha256 of the file of the chosen tasks."""
    n_read: PositiveInt
    """Rows in the published files."""
    n_tasks: PositiveInt
    """Tasks that were chosen and run."""
    n_asked: PositiveInt | None
    """Tasks that were asked for; absent where that was all."""
    seed: int
    """Seed of the choice."""
    malformed: tuple[RowNote, ...] = ()
    """Rows that are no task, and why."""
    left_out: tuple[RowNote, ...] = ()
    """Rows that their publisher calls wrong."""
    ids: tuple[str, ...]
    """The chosen tasks by their ids in the source, in the order of the file."""
    order: Order
    """Whose order the answers of a score are in: file is that of `ids`. tool: the order in which
    llama-perplexity ran them, which is not known here but the same for every file."""
    chance: float
    """Score of answers taken at random, percent."""
    n_ctx: PositiveInt
    """Context length; n_parallel times so many tokens were there for a task."""
    n_parallel: PositiveInt
    """Sequences at once."""
    n_batch: PositiveInt
    """Logical batch size."""
    n_ubatch: PositiveInt
    """Physical batch size."""
    flash_attn: str
    """on, off or auto."""
    build_id: str
    """BuildId of the binaries that measured."""
    gated: bool = False
    """Whether its publisher asks not to pass its text on; none of it is in here."""
    licence: str | None = None
    """Its licence."""
    citation: str | None = None
    """How its authors want to be named."""


def scored_under(run: RunRecords) -> tuple[TaskConditions, ...]:
    """The conditions that all scores on a set share, for each set that was scored.

    Raises:
        MixedConditionsError: where two files were scored under different ones.

    """
    return tuple(
        _shared(run, asked, keys)
        for asked in task_sets(run.config)
        if (keys := _keys(run, asked.name)) and step_of(asked.name) in run.records
    )


def scores_of(run: RunRecords, label: str) -> tuple[TaskScore, ...]:
    """One file's scores, in the config's order of the sets; `label` is that of its steps."""
    found = (
        (asked.name, run.result(score_of(label, asked.name), TasksResult))
        for asked in task_sets(run.config)
    )
    return tuple(_score(name, result) for name, result in found if result is not None)


def average_of(scores: Sequence[TaskScore], n_sets: int) -> Estimate | None:
    """The mean over sets, each counting alike; None unless all were scored.

    The sets hold different tasks, so their errors are independent.
    """
    if len(scores) != n_sets or not scores:
        return None
    errors = [score.score.stderr for score in scores]
    known = [error for error in errors if error is not None]
    return Estimate(
        value=sum(score.score.value for score in scores) / n_sets,
        stderr=mean_error(known) if len(known) == n_sets else None,
    )


def _score(name: str, result: TasksResult) -> TaskScore:
    interval = wilson(result.n_correct, result.n_tasks)
    return TaskScore(
        set=name,
        n_tasks=result.n_tasks,
        n_correct=result.n_correct,
        score=result.score,
        low=100 * interval.low,
        high=100 * interval.high,
        correct=result.correct,
    )


def _keys(run: RunRecords, name: str) -> list[str]:
    return [
        key for key in run.records if key.startswith(f"{TASKS}/") and key.rpartition("/")[2] == name
    ]


def _shared(run: RunRecords, asked: TaskSet, keys: Sequence[str]) -> TaskConditions:
    first, *others = keys
    shared = _conditions(run, asked, first)
    for key in others:
        other = _conditions(run, asked, key)
        refuse_different(shared, other, what=f"scores of {first} and {key}")
    return shared


def _conditions(run: RunRecords, asked: TaskSet, key: str) -> TaskConditions:
    record = run.needed(key)
    result = run.needed_result(key, TasksResult)
    made = run.needed_result(step_of(asked.name), DatasetResult)
    if result.n_tasks != made.n_chosen:
        counts = f"{result.n_tasks} answers, where {made.n_chosen} tasks were chosen"
        raise mixed(f"scores of {key}", [counts])
    params = TasksParams.model_validate(record.params)
    return TaskConditions(
        title=asked.title,
        gated=asked.gated,
        licence=asked.licence,
        citation=asked.citation,
        n_tasks=made.n_chosen,
        datasets=_datasets(run, asked.name),
        order=result.order,
        chance=result.chance,
        n_parallel=result.n_parallel,
        build_id=record.made_by_id,
        **made.model_dump(include=FROM_DATASET),
        **params.model_dump(include={"n_ctx", "n_batch", "n_ubatch", "flash_attn"}),
    )


def _datasets(run: RunRecords, name: str) -> tuple[str, ...]:
    sources = run.plan.step(step_of(name)).inputs.values()
    fetched = [source.step for source in sources if isinstance(source, OutputRef)]
    results = [
        run.needed_result(key, FetchResult)
        for key in fetched
        if key in run.records and run.records[key].stage == FETCH_STAGE.name
    ]
    return tuple(dict.fromkeys(f"{one.repo}@{one.commit}" for one in results))


FROM_DATASET = {
    "name", "form", "template", "template_version", "sources", "sha256", "n_read", "n_asked",
    "seed", "malformed", "left_out", "ids",
}  # fmt: skip
