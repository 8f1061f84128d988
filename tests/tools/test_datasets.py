"""The files that our converters write, read by the real llama-perplexity."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from llamacpp_pipeline.datasets.forms import FORMS
from llamacpp_pipeline.datasets.index import read_index
from llamacpp_pipeline.datasets.layouts import Layout
from llamacpp_pipeline.datasets.rows import Container
from llamacpp_pipeline.datasets.shuffle import hellaswag_order
from llamacpp_pipeline.datasets.task import Form, Task
from llamacpp_pipeline.datasets.templates import templates
from llamacpp_pipeline.stages.dataset import DatasetParams, PartParams, converted_files
from llamacpp_pipeline.toolchain.binaries import Toolchain
from tests.tools.tiny_llama import TinyLlama, chunks_of, forward, rms_norm, write_gguf

pytestmark = [pytest.mark.tools, pytest.mark.timeout(120)]

MODEL = TinyLlama(n_layers=1, n_embd=128)
ROW = re.compile(r"^(\d+)\t\s*([\d.]+)", re.MULTILINE)
ODD = (
    Task(id="a", question="Line\nfeed and \\n backslash", answers=("\\t", "\t"), gold=0),
    Task(id="b", question="Ünïcode 漢字, \"quoted\", 'so'", answers=("ä.", "ö.", "ü"), gold=1),
    Task(id="c", question="Ends in a line feed\n", answers=("a\n", "b\n"), gold=0),
    Task(id="d", question="Five", answers=("1", "22", "3", "444", "5"), gold=4),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_gguf(MODEL, path)
    return path


def ran(toolchain: Toolchain, model: Path, file: Path, form: Form, n_tasks: int) -> str:
    command = (
        *(str(toolchain.bin_dir / "llama-perplexity"), "--model", str(model)),
        *(f"--{form}", f"--{form}-tasks", str(n_tasks), "--binary-file", str(file)),
        *("--no-escape", "--ctx-size", "2048", "--parallel", "16", "--threads", "1"),
    )
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True, text=True
    )
    return done.stdout


def correct(log: str) -> list[bool]:
    """Of each task in the order in which it was run."""
    rows = [(int(at), float(percent)) for at, percent in ROW.findall(log)]
    assert [at for at, _ in rows] == list(range(1, len(rows) + 1))
    counts = [0, *(round(at * percent / 100) for at, percent in rows)]
    return [after > before for before, after in pairwise(counts)]


def scored(
    toolchain: Toolchain, model: Path, folder: Path, form: Form, tasks: Sequence[Task]
) -> list[bool]:
    file = folder / "tasks.bin"
    file.write_bytes(FORMS[form].encode(tasks))
    found = correct(ran(toolchain, model, file, form, len(tasks)))
    assert len(found) == len(tasks)
    return found


def best_answer(task: Task) -> int:
    """By the mean log-probability of what differs between the answers, computed in numpy."""
    texts = [f"{task.question} {answer}".encode() for answer in task.answers]
    ids = [chunks_of(text, n_ctx=len(text.replace(b" ", b"___")) + 1)[0] for text in texts]
    shared = next(at for at, tokens in enumerate(zip(*ids, strict=False)) if len(set(tokens)) > 1)
    return int(np.argmax([mean_logprob(each, shared) for each in ids]))


def mean_logprob(ids: npt.NDArray[np.int64], begin: int) -> float:
    weights = MODEL.weights()
    rows = rms_norm(forward(MODEL, ids, lambda *_: None), weights["output_norm.weight"])
    logits = rows @ weights["output.weight"].T
    logs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return float(np.mean([logs[at - 1, ids[at]] for at in range(begin, len(ids))]))


def test_the_binary_form_is_read_as_it_was_written(
    toolchain: Toolchain, model: Path, tmp_path: Path
) -> None:
    made = [replace(task, gold=best_answer(task)) for task in ODD]
    assert scored(toolchain, model, tmp_path, "multiple-choice", made) == [True] * len(made)
    wrong = [replace(task, gold=(task.gold + 1) % len(task.answers)) for task in made]
    assert scored(toolchain, model, tmp_path, "multiple-choice", wrong) == [False] * len(made)


def four_endings(n_tasks: int) -> list[Task]:
    endings = [f"ends {word}." for word in ("in \\n", "well", "badly, or", "so: 'ü'")]
    turned = [endings[at // 3 % 4 :] + endings[: at // 3 % 4] for at in range(n_tasks)]
    return [
        Task(id=str(at), question=f"Task {at}", answers=tuple(four), gold=0)
        for at, four in enumerate(turned)
    ]


def test_hellaswag_tasks_are_run_in_the_order_that_we_compute(
    toolchain: Toolchain, model: Path, tmp_path: Path
) -> None:
    tasks = four_endings(41)
    picked = [0] * len(tasks)  # by the tool, in the order in which it runs them
    for gold in range(4):
        asked = [replace(task, gold=gold) for task in tasks]
        found = scored(toolchain, model, tmp_path, "hellaswag", asked)
        picked = [gold if hit else before for hit, before in zip(found, picked, strict=True)]
    assert len(set(picked)) > 1
    by_file = dict(zip(hellaswag_order(len(tasks)), picked, strict=True))
    right = [replace(task, gold=by_file[at]) for at, task in enumerate(tasks)]
    assert all(scored(toolchain, model, tmp_path, "hellaswag", right))
    file_order = [replace(task, gold=at) for task, at in zip(tasks, picked, strict=True)]
    assert not all(scored(toolchain, model, tmp_path, "hellaswag", file_order))


def test_every_winogrande_line_is_read_the_last_one_too(
    toolchain: Toolchain, model: Path, tmp_path: Path
) -> None:
    sentences = ("Ann hit _ .", "Ann, then, hit _ .", 'Ann "hit, once" _ hard', '"Ann" hit _ hard')
    tasks = [
        Task(id=str(at), question=sentence, answers=("Bob", "Eve"), gold=at % 2)
        for at, sentence in enumerate(sentences)
    ]
    file = tmp_path / "tasks.bin"
    file.write_bytes(FORMS["winogrande"].encode(tasks))
    log = ran(toolchain, model, file, "winogrande", len(tasks))
    assert f"loaded {len(tasks)} tasks from prompt" in log
    golds = re.findall(r"^\d+\t[\d.]+\t\s*\S+\s+\S+\s+[12]\s+([12])$", log, re.MULTILINE)
    assert [int(gold) - 1 for gold in golds] == [task.gold for task in tasks]


PUBLISHED: Mapping[str, tuple[Form, Container, Layout, str, int]] = {
    "hellaswag.val_full.txt": ("hellaswag", "six-line", "task", "continuation", 10_042),
    "arc_challenge.test.jsonl": ("multiple-choice", "jsonl", "arc", "question-answer", 1_172),
    "mmlu.test.jsonl": ("multiple-choice", "jsonl", "mmlu", "question-answer", 14_042),
    "truthfulqa.mc.json": (
        *("multiple-choice", "json", "truthfulqa-mc1", "question-answer"),
        817,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sets_are_converted_and_read(
    toolchain: Toolchain, model: Path, tmp_path: Path, shared_data: Path, name: str
) -> None:
    form, container, layout, template, n_rows = PUBLISHED[name]
    params = DatasetParams(
        name="set",
        form=form,
        template=templates()[template],
        parts=(PartParams(label="", container=container, layout=layout),),
        n_tasks=25,
        seed=1,
    )
    tasks, index = tmp_path / "tasks.bin", tmp_path / "index.jsonl"
    result = converted_files(params, [shared_data / name], tasks=tasks, index=index)
    assert result.n_read == n_rows
    assert len(result.malformed) <= 0.002 * n_rows
    assert [entry.id for entry in read_index(index)] == list(result.ids)
    assert len(correct(ran(toolchain, model, tasks, form, 25))) == 25
