"""The demo's own evaluation sets: sound tasks, held-out text, the same whenever made."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from llamacpp_pipeline.datasets.forms import FORMS
from llamacpp_pipeline.datasets.layouts import question_of
from llamacpp_pipeline.datasets.registry import known_sets
from llamacpp_pipeline.datasets.task import Task, refusal
from llamacpp_pipeline.demo import tasks
from llamacpp_pipeline.demo.tasks import SETS, DemoSet, demo_tasks
from llamacpp_pipeline.demo.text import normalised, paragraphs


def rows(name: DemoSet) -> list[dict[str, Any]]:
    return [json.loads(line) for line in demo_tasks(name).splitlines()]


@pytest.mark.parametrize("name", SETS)
def test_the_form_holds_nearly_every_task(name: DemoSet) -> None:
    form = FORMS[known_sets()[f"demo-{name}"].form]
    found = [question_of(row, "task") for row in rows(name)]
    made = [Task(id=q.id or "", question=q.question, answers=q.answers, gold=q.gold) for q in found]
    refused = [task for task in made if refusal(task) or form.refusal(task)]
    assert len(made) >= 350  # 10 more in one Python than in another
    assert len(refused) <= 0.03 * len(made)
    assert len({task.id for task in made}) == len(made)


@pytest.mark.parametrize("name", SETS)
def test_the_right_answer_is_at_no_place_of_its_own(name: DemoSet) -> None:
    found = rows(name)
    n_answers = len(found[0]["answers"])
    for at in range(n_answers):
        share = sum(row["gold"] == at for row in found) / len(found)
        assert abs(share - 1 / n_answers) < 0.08  # 3 standard deviations of 350 draws of 1/2


def test_the_right_answer_is_what_the_text_says() -> None:
    whole = " ".join(paragraphs("evaluation"))
    for row in rows("passages"):
        right = row["answers"][row["gold"]]
        assert normalised(f"{row['question']} {right}") in whole
    for row in rows("names"):
        assert normalised(row["question"].replace("_", row["answers"][row["gold"]])) in whole


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_the_same_when_made_again(name: DemoSet) -> None:
    before = demo_tasks(name)
    demo_tasks.cache_clear()
    assert demo_tasks(name) == before


def test_the_sets_need_nothing_but_the_standard_library() -> None:
    source = Path(tasks.__file__).read_text(encoding="utf-8")
    imported = set(re.findall(r"^(?:from|import) (\w+)", source, re.MULTILINE))
    assert imported <= sys.stdlib_module_names | {"llamacpp_pipeline"}
