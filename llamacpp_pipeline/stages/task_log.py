"""What llama-perplexity prints of each task: a running share, from which each answer is recovered.

All three forms print one row a task. HellaSwag and multiple choice give the share of right answers
so far, to eight digits, and nothing of the task itself; WinoGrande also gives both scores, the
choice made and the right one. Rows stand in the order in which the tasks were run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

from llamacpp_pipeline.datasets.task import Form
from llamacpp_pipeline.errors import InputError, PipelineError
from llamacpp_pipeline.stages.llama_failures import without

TOOL = "llama-perplexity"
SPEAKER = re.compile(r"\b(?P<name>hellaswag|winogrande|multiple_choice)_score\b")
ROW: Mapping[Form, re.Pattern[str]] = {
    "hellaswag": re.compile(r"(?<!\S)(?P<n>\d+)\t(?P<share>\d+\.\d{8})%\t\["),
    "winogrande": re.compile(
        r"(?<!\S)(?P<n>\d+)\t(?P<share>\d+\.\d{4})\t *(?P<one>\S+) +(?P<two>\S+)"
        r"  (?P<picked>[12])  (?P<gold>[12])\s"
    ),
    "multiple-choice": re.compile(r"(?<!\S)(?P<n>\d+)\t(?P<share>\d+\.\d{8})\s"),
}
LOADED: Mapping[Form, re.Pattern[str]] = {
    "hellaswag": re.compile(r"hellaswag_score : loaded (?P<n>\d+) tasks"),
    "winogrande": re.compile(r"winogrande_score : loaded (?P<n>\d+) tasks"),
    "multiple-choice": re.compile(r"score over (?P<n>\d+) tasks"),
}
SCORE = r"(?P<value>\d+\.\d+) \+/- (?P<stderr>\d+\.\d+|-?nan)"
FINAL: Mapping[Form, re.Pattern[str]] = {
    "winogrande": re.compile(r"Final Winogrande score\(\d+ tasks\): " + SCORE),
    "multiple-choice": re.compile(r"Final result: " + SCORE),
}
FEWEST_FOR_FINAL = 100  # with fewer WinoGrande tasks the last row is all there is
CLOSE = 2e-4  # percent: the tool ends in single precision and prints four digits


def form_of(log: str) -> Form:
    """The form of the tasks that were run.

    Raises:
        PipelineError: where none was.

    """
    match = SPEAKER.search(log)
    if match is None:
        raise without(TOOL, "a word on the tasks", log)
    forms: Mapping[str, Form] = {
        "hellaswag": "hellaswag",
        "winogrande": "winogrande",
        "multiple_choice": "multiple-choice",
    }
    return forms[match["name"]]


def answers(log: str, form: Form, *, n_tasks: int) -> tuple[bool, ...]:
    """Whether each task was answered right, in the order in which they were run.

    Raises:
        PipelineError: where not all were run, or what is printed does not add up.

    """
    loaded = LOADED[form].search(log)
    if loaded is not None and int(loaded["n"]) != n_tasks:
        raise without(TOOL, f"{n_tasks} tasks: it loaded {loaded['n']}", log)
    rows = list(ROW[form].finditer(log))
    if [int(row["n"]) for row in rows] != list(range(1, n_tasks + 1)):
        raise without(TOOL, f"one row for each of {n_tasks} tasks: {len(rows)} are there", log)
    found = recovered([row["share"] for row in rows], log)
    if form == "winogrande":
        refuse_other_answers(rows, found, log)
    refuse_other_final(log, form, found)
    return found


def recovered(shares: Sequence[str], log: str) -> tuple[bool, ...]:
    """The answers behind running shares (percent) of right ones.

    Raises:
        PipelineError: where a share is not one of so many tasks.

    """
    counts = [0]
    for n, text in enumerate(shares, start=1):
        digits = len(text.partition(".")[2])
        count = round(float(text) * n / 100)
        if abs(100 * count / n - float(text)) > 0.6 * 10**-digits or count - counts[-1] not in {
            0,
            1,
        }:
            raise without(TOOL, f"a share of right answers that {n} tasks can have: {text} %", log)
        counts.append(count)
    return tuple(after > before for before, after in pairwise(counts))


def refuse_other_answers(rows: Sequence[re.Match[str]], found: Sequence[bool], log: str) -> None:
    """Refuse scores that are no numbers, and choices that are not what the share says.

    Raises:
        PipelineError: naming the row.

    """
    for row, right in zip(rows, found, strict=True):
        if not all(math.isfinite(float(row[score])) for score in ("one", "two")):
            raise not_numbers()
        if (row["picked"] == row["gold"]) != right:
            raise without(TOOL, f"a choice at task {row['n']} that its share bears out", log)


def refuse_other_final(log: str, form: Form, found: Sequence[bool]) -> None:
    """Refuse answers that do not add up to the tool's own last word, where it has one.

    Raises:
        PipelineError: where they do not, or it is missing.

    """
    if form not in FINAL or (form == "winogrande" and len(found) < FEWEST_FOR_FINAL):
        return
    final = FINAL[form].search(log)
    if final is None:
        raise without(TOOL, "its final score", log)
    n, error = len(found), standard_error(sum(found), len(found))
    wanted = [(100 * sum(found) / n, float(final["value"]))]
    wanted += [] if error is None else [(100 * error, float(final["stderr"]))]
    if any(abs(ours - printed) > CLOSE for ours, printed in wanted):
        raise without(TOOL, f"a final score that its rows add up to: it says {final[0]}", log)


def standard_error(n_correct: int, n_tasks: int) -> float | None:
    """The standard error of a share as llama-perplexity prints it; None of a single task.

    sqrt(p (1 - p) / (n - 1)).
    """
    share = n_correct / n_tasks
    return math.sqrt(share * (1 - share) / (n_tasks - 1)) if n_tasks > 1 else None


def not_numbers() -> PipelineError:
    """The refusal of scores that are NaN: the tool compares them all the same."""
    return InputError(
        "the model's scores are not numbers (NaN), so its choices mean nothing",
        hint="if it was converted to F16, set `convert.outtype: bf16`; else it is damaged",
    )
