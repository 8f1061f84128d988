"""The score of one GGUF on one evaluation set, by llama-perplexity, with the answer to each task.

The tool is given a file of exactly the tasks that were chosen and runs them all, so its own choice
(std::mt19937 of seed 1) decides nothing but the order in which HellaSwag's are run.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from llamacpp_pipeline.datasets import choice_file, hellaswag_text, winogrande_csv
from llamacpp_pipeline.datasets.index import IndexEntry, read_index
from llamacpp_pipeline.datasets.shuffle import hellaswag_order
from llamacpp_pipeline.datasets.task import Form, Task
from llamacpp_pipeline.errors import InputError, PipelineError, UnreadableOutputError
from llamacpp_pipeline.stages.answer_bits import packed
from llamacpp_pipeline.stages.base import Argv, Frozen, Paths, ProgressPattern, ToolStage
from llamacpp_pipeline.stages.gguf_facts import read_gguf
from llamacpp_pipeline.stages.llama_failures import Known, explain, explain_by, refuse_error_records
from llamacpp_pipeline.stages.task_log import TOOL, answers, form_of, not_numbers, standard_error
from llamacpp_pipeline.stages.tool_flags import placement_flags
from llamacpp_pipeline.units import Estimate

Order = Literal["file", "tool"]
FEWEST_PARALLEL = 4  # the tool takes no fewer
TELLING = 50  # with so many tasks no model hits upon always taking the first answer
TOO_LONG = re.compile(
    r"task (?P<at>\d+) does not fit in the context window \(requires (?P<tokens>\d+) tokens\)"
)
QUOTED = re.compile(r"(?<=[a-z] )<.*>$", re.MULTILINE)
DECODERS: Mapping[Form, Callable[[bytes], Sequence[Task | str]]] = {
    "hellaswag": hellaswag_text.decode,
    "winogrande": winogrande_csv.decode,
    "multiple-choice": choice_file.decode,
}
WRONG_FILE = (
    Known(
        line=re.compile(
            r"not a multiple of 6|load_winogrande_from_csv: |what\(\):\s+stoi"
            r"|failed to read task|: no tasks|empty question and/or|found empty answer|malformed"
        ),
        message="the file of tasks is not in the form that was asked for",
        hint="make it again: `llamacpp-pipeline run --rerun dataset`",
    ),
)


class TaskCut(Frozen):
    """How tasks are computed. Every field can change a score, if only in what is a near tie."""

    n_ctx: PositiveInt = 768  # n_parallel times so many tokens hold one task, or several
    n_parallel: Annotated[int, Field(ge=FEWEST_PARALLEL)] = FEWEST_PARALLEL
    n_batch: PositiveInt = 2048
    n_ubatch: PositiveInt = 512
    flash_attn: Literal["on", "off", "auto"] = "auto"


class TasksParams(TaskCut):
    form: Form


class TasksResult(Frozen):
    """A score in percent, and what it is made of."""

    form: Form
    n_tasks: PositiveInt
    n_correct: NonNegativeInt
    score: Estimate  # with the standard error that the tool prints (of HellaSwag it prints none)
    chance: float  # of an answer taken at random, percent
    correct: str  # a bit for each task: see answer_bits
    order: Order  # whose order these bits are in
    n_parallel: PositiveInt  # more than asked for where a task has more answers


def argv(params: TasksParams, paths: Paths) -> Argv:
    read_gguf(paths["model"])
    index = read_index(paths["index"])
    refuse_other_file(params.form, paths["tasks"], index)
    flag = f"--{params.form}"
    return (
        TOOL,
        *("--model", str(paths["model"])),
        *(flag, f"{flag}-tasks", str(len(index))),
        *("--binary-file", str(paths["tasks"])),
        "--no-escape",  # else it reads a backslash and an n as a line feed, in this file too
        *("--ctx-size", str(params.n_ctx)),
        *("--parallel", str(parallel(params.n_parallel, index))),
        *("--batch-size", str(params.n_batch)),
        *("--ubatch-size", str(params.n_ubatch)),
        *("--flash-attn", params.flash_attn),
        "--no-warmup",
    )


def parallel(asked: int, index: Sequence[IndexEntry]) -> int:
    """Sequences at once: as many as asked for, and enough for all answers of any task."""
    return max(asked, *(entry.n_answers for entry in index))


def refuse_other_file(form: Form, tasks: Path, index: Sequence[IndexEntry]) -> None:
    """Refuse a file that does not hold the index's tasks; the tool might score it regardless.

    Raises:
        InputError: naming the first task that differs.

    """
    if not index:
        raise InputError("there is no task in the index", hint="choose at least one task")
    found = DECODERS[form](tasks.read_bytes())
    golds = [task.gold if isinstance(task, Task) else None for task in found]
    for at, entry in enumerate(index):
        if at >= len(golds) or golds[at] != entry.gold:
            raise InputError(
                f"task {at + 1} of the file is not the index's, {entry.id}",
                evidence=(f"the file has {len(golds)} tasks, the index {len(index)}",),
                hint="make both again: `llamacpp-pipeline run --rerun dataset`",
            )
    if len(golds) != len(index):
        raise InputError(f"the file has {len(golds)} tasks, the index {len(index)}")


def parse(log: str, paths: Paths) -> TasksResult:
    index = read_index(paths["index"])
    refuse_wrong_form(log)
    form = form_of(log)
    order = run_order(form, len(index))
    refuse_too_long(log, index, order)
    refuse_error_records(TOOL, log)
    run = answers(log, form, n_tasks=len(index))
    found = run if order is None else in_file_order(run, order)
    if order is not None:
        refuse_always_first(found, index)
    error = standard_error(sum(found), len(found))
    return TasksResult(
        form=form,
        n_tasks=len(found),
        n_correct=sum(found),
        score=Estimate(
            value=100 * sum(found) / len(found), stderr=None if error is None else 100 * error
        ),
        chance=100 * sum(1 / entry.n_answers for entry in index) / len(index),
        correct=packed(found),
        order="tool" if order is None else "file",
        n_parallel=parallel(FEWEST_PARALLEL, index),
    )


def refuse_wrong_form(log: str) -> None:
    """Refuse what the tool could not read; it says so and exits with 0.

    Raises:
        PipelineError: with its words.

    """
    found = wrong_form(log)
    if found is not None:
        raise found


def wrong_form(log: str) -> PipelineError | None:
    """The tool's words on a file of another form, without the rows that it quotes.

    Some sets forbid to pass their text on.
    """
    return explain_by(WRONG_FILE, QUOTED.sub("<...>", log))


def run_order(form: Form, n_tasks: int, *, platform: str = sys.platform) -> tuple[int, ...] | None:
    """Positions in the file in the order in which the tasks are run; None where that is unknown.

    HellaSwag's depends on the C++ library: on other systems than Linux, whose is known here,
    answers stay in the tool's order, which is one and the same for all files measured there.
    """
    if form != "hellaswag":
        return tuple(range(n_tasks))
    return hellaswag_order(n_tasks) if platform == "linux" else None


def in_file_order(run: Sequence[bool], order: Sequence[int]) -> tuple[bool, ...]:
    """Answers in the order of the file."""
    by_position = dict(zip(order, run, strict=True))
    return tuple(by_position[at] for at in range(len(run)))


def refuse_too_long(log: str, index: Sequence[IndexEntry], order: Sequence[int] | None) -> None:
    """Refuse a context that cannot hold a task: the tool stops there, with exit code 0.

    Raises:
        InputError: naming the task, and the context that would do.

    """
    match = TOO_LONG.search(log)
    if match is None:
        return
    at, tokens = int(match["at"]), int(match["tokens"])
    which = f"number {at + 1} of those run" if order is None else index[order[at]].id
    needed = math.ceil(tokens / parallel(FEWEST_PARALLEL, index))
    raise InputError(
        f"the context cannot hold a task: {which} takes {tokens} tokens with all its answers",
        evidence=(match[0],),
        hint=f"set `tasks.n_ctx` to at least {needed}, or leave the set out",
    )


def refuse_always_first(found: Sequence[bool], index: Sequence[IndexEntry]) -> None:
    """Refuse what a model gives whose scores are NaN: the first answer, every time.

    WinoGrande prints its scores; the other forms print nothing that tells.

    Raises:
        InputError: where it was always the first answer.

    """
    first = [entry.gold == 0 for entry in index]
    if len(first) < TELLING or list(found) != first:
        return
    if any(first) and not all(first):
        raise not_numbers()
    raise InputError(
        "the model took the first answer of every task, as one does whose scores are NaN",
        hint="if its PPL is a number, mix the order of the set's answers and measure again",
    )


def complete(params: TasksParams, result: TasksResult, paths: Paths) -> TasksResult:
    """The result, once it is known to be of the form that was asked for."""
    if result.form != params.form:
        raise UnreadableOutputError(TOOL, f"tasks of the form {params.form}: it ran {result.form}")
    n_parallel = parallel(params.n_parallel, read_index(paths["index"]))
    return result.model_copy(update={"n_parallel": n_parallel})


def explained(log: str) -> PipelineError | None:
    """Why the tool gave up, where that is known."""
    return explain(log) or wrong_form(log)


STAGE = ToolStage(
    name="tasks",
    version=1,  # bump when argv or parse changes meaning
    tool=TOOL,
    made_by="binary",
    inputs=frozenset({"model", "tasks", "index"}),
    outputs={},
    params=TasksParams,
    result=TasksResult,
    lane="device",
    argv=argv,
    parse=parse,
    placement=placement_flags,
    complete=complete,
    explain=explained,
    progress=ProgressPattern(
        done=re.compile(r"(?:^|\n)(?P<n>\d+)\t\d"),
        total=re.compile(r"(?:selecting|loaded|score over) (?P<n>\d+)(?: randomized)? tasks"),
        unit="task",
    ),
)
