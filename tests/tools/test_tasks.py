"""Scores by the real llama-perplexity: the same number as by hand, and every failure said."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import pytest

from llamacpp_pipeline.datasets.forms import FORMS
from llamacpp_pipeline.datasets.index import index_of
from llamacpp_pipeline.datasets.layouts import Layout
from llamacpp_pipeline.datasets.rows import Container
from llamacpp_pipeline.datasets.task import Form, Task
from llamacpp_pipeline.datasets.templates import TemplateName, templates
from llamacpp_pipeline.demo import MODEL_DIR, PRE_TOKENIZER
from llamacpp_pipeline.demo.tasks import demo_tasks
from llamacpp_pipeline.errors import InputError
from llamacpp_pipeline.stages import convert, tasks, weights
from llamacpp_pipeline.stages.answer_bits import unpacked
from llamacpp_pipeline.stages.base import Argv, Placement
from llamacpp_pipeline.stages.dataset import DatasetParams, PartParams, converted_files
from llamacpp_pipeline.stages.tasks import TasksParams, TasksResult
from llamacpp_pipeline.toolchain.binaries import Toolchain

pytestmark = [pytest.mark.tools, pytest.mark.timeout(300)]

ALONE = Placement(n_threads=1)
DEMO: Mapping[Form, str] = {
    "hellaswag": "passages", "winogrande": "names", "multiple-choice": "words",
}  # fmt: skip
LAST_ROW = re.compile(r"^(\d+)\t\s*([\d.]+)", re.MULTILINE)


@dataclass(frozen=True)
class Scorer:
    """Runs the stage, and the tool by hand, on one model."""

    toolchain: Toolchain
    model: Path

    def log(self, command: tuple[str, ...]) -> str:
        ran = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True, text=True
        )
        return ran.stdout

    def scored(self, params: TasksParams, paths: Mapping[str, Path]) -> TasksResult:
        inputs = {"model": self.model, **paths}
        tool, *arguments = tasks.argv(params, inputs)
        command = (*self.toolchain.prefix(tool), *arguments, *tasks.STAGE.placement(ALONE))
        return tasks.STAGE.read(params, self.log(command), inputs)

    def by_hand(self, form: Form, file: Path, n_tasks: int, *more: str) -> str:
        program = str(self.toolchain.bin_dir / "llama-perplexity")
        flags = (f"--{form}", f"--{form}-tasks", str(n_tasks), "-bf", str(file), "-t", "1")
        return self.log((program, "-m", str(self.model), *flags, "--no-escape", *more))


@pytest.fixture(scope="module")
def scorer(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    folder = tmp_path_factory.mktemp("model")
    paths = {
        "model": MODEL_DIR, "report": folder / "weights.json", "gguf": folder / "model.gguf",
        "weights": folder / "weights.json",
    }  # fmt: skip
    params = convert.ConvertParams(model_name="Demo", pre_tokenizer=PRE_TOKENIZER)

    def run(argv: Argv) -> None:
        tool, *arguments = argv
        subprocess.run([*toolchain.prefix(tool), *arguments], check=True, capture_output=True)

    run(weights.STAGE.argv(weights.WeightsParams(), paths))
    run(convert.STAGE.argv(params, paths))  # which reads what the first has found
    return Scorer(toolchain, paths["gguf"])


def converted(folder: Path, source: Path, said: DatasetParams) -> dict[str, Path]:
    """The chosen tasks and their index."""
    paths = {"tasks": folder / "tasks.bin", "index": folder / "index.jsonl"}
    converted_files(said, [source], **paths)
    return paths


def asked(
    form: Form, *, container: Container, layout: Layout, template: TemplateName, n_tasks: int
) -> DatasetParams:
    part = PartParams(label="", container=container, layout=layout)
    return DatasetParams(
        name="set",
        form=form,
        template=templates()[template],
        parts=(part,),
        n_tasks=n_tasks,
        seed=1,
    )


def demo(folder: Path, form: Form, n_tasks: int) -> dict[str, Path]:
    """Some of the demo's tasks in a form."""
    source = folder / "source.jsonl"
    source.write_text(demo_tasks(DEMO[form]), encoding="utf-8")
    said = asked(form, container="jsonl", layout="task", template="continuation", n_tasks=n_tasks)
    return converted(folder, source, said)


@pytest.mark.parametrize("form", list(DEMO))
def test_the_whole_file_by_hand_gives_the_same_score(
    scorer: Scorer, tmp_path: Path, form: Form
) -> None:
    paths = demo(tmp_path, form, 40)

    result = scorer.scored(TasksParams(form=form, n_ctx=256), paths)

    log = scorer.by_hand(form, paths["tasks"], 10_000, "-c", "256")
    n, share = LAST_ROW.findall(log)[-1]
    assert (int(n), result.n_tasks) == (40, 40)
    assert result.score.value == pytest.approx(float(share), abs=1e-4)
    assert sum(unpacked(result.correct, 40)) == result.n_correct
    assert result.score.value > result.chance + 10


def test_each_answer_is_that_to_its_own_task(scorer: Scorer, tmp_path: Path) -> None:
    paths = demo(tmp_path, "hellaswag", 12)
    found = unpacked(scorer.scored(TasksParams(form="hellaswag", n_ctx=256), paths).correct, 12)
    lines = paths["tasks"].read_bytes().decode().splitlines()
    assert len(set(found)) == 2

    for at in (found.index(True), found.index(False)):
        alone = tmp_path / f"{at}.txt"
        alone.write_text("\n".join(lines[6 * at : 6 * at + 6]) + "\n", encoding="utf-8")
        share = LAST_ROW.findall(scorer.by_hand("hellaswag", alone, 1, "-c", "256"))[-1][1]
        assert (float(share) == 100.0) is found[at]


@pytest.mark.parametrize("form", list(DEMO))
def test_a_context_that_is_too_small_is_said_with_the_one_that_does(
    scorer: Scorer, tmp_path: Path, form: Form
) -> None:
    paths = demo(tmp_path, form, 4)
    n_answers = 2 if form == "winogrande" else 4
    words = " ".join(f"word{at}" for at in range(90))
    gap = " _" if form == "winogrande" else ""
    long = Task(
        id="long",
        question=f"It goes{gap}" if n_answers == 4 else f"{words}{gap} {words}",
        answers=tuple(f"{words} {at}" if n_answers == 4 else f"w{at}" for at in range(n_answers)),
        gold=0,
    )
    paths["tasks"].write_bytes(FORMS[form].encode([long]))
    paths["index"].write_text(index_of([long]), encoding="utf-8")

    with pytest.raises(InputError, match="long takes") as caught:
        scorer.scored(TasksParams(form=form, n_ctx=64), paths)
    needed = re.search(r"at least (\d+)", caught.value.hint or "")
    assert needed is not None
    enough = TasksParams(form=form, n_ctx=int(needed[1]))
    assert scorer.scored(enough, paths).n_tasks == 1


@pytest.mark.parametrize("form", list(DEMO))
def test_a_model_that_computes_nan_gets_no_score(
    scorer: Scorer, tmp_path: Path, form: Form
) -> None:
    broken = tmp_path / "nan.gguf"
    shutil.copyfile(scorer.model, broken)
    reader = gguf.GGUFReader(broken, "r+")
    norm = next(tensor for tensor in reader.tensors if tensor.name == "output_norm.weight")
    norm.data[:] = np.nan
    reader.data.flush()

    with pytest.raises(InputError, match="not numbers"):
        Scorer(scorer.toolchain, broken).scored(
            TasksParams(form=form, n_ctx=256), demo(tmp_path, form, 60)
        )


PUBLISHED: Mapping[str, tuple[Form, Container, Layout, TemplateName]] = {
    "hellaswag.val_full.txt": ("hellaswag", "six-line", "task", "continuation"),
    "arc_challenge.test.jsonl": ("multiple-choice", "jsonl", "arc", "question-answer"),
    "mmlu.test.jsonl": ("multiple-choice", "jsonl", "mmlu", "question-answer"),
    "truthfulqa.mc.json": ("multiple-choice", "json", "truthfulqa-mc1", "question-answer"),
}


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_published_sets_run_and_add_up(
    scorer: Scorer, tmp_path: Path, shared_data: Path, name: str
) -> None:
    form, container, layout, template = PUBLISHED[name]
    said = asked(form, container=container, layout=layout, template=template, n_tasks=12)
    paths = converted(tmp_path, shared_data / name, said)

    result = scorer.scored(TasksParams(form=form), paths)

    assert result.n_tasks == 12
    log = scorer.by_hand(form, paths["tasks"], 12, "-c", "768", "-np", str(result.n_parallel))
    share = LAST_ROW.findall(log)[-1][1]
    assert result.score.value == pytest.approx(float(share), abs=1e-4)


PROGRAM = Path(sys.executable).parent / "llamacpp-pipeline"
RARE = "Quokka"  # a word of the gated set and of nothing else
CONFIG = """
model: {demo: true, name: small}
convert: {pre_tokenizer: qwen35}
evaluation: {corpus: {demo: evaluation}, n_ctx: 128, n_chunks: 4}
variants: [Q8_0, Q2_K]
bench: null
placement: {n_threads: 1}
tasks: {sets: [demo-passages, mine], n_tasks: 20, n_ctx: 256}
datasets:
  - {name: mine, path: mine.jsonl, layout: task, gated: true, consent: true}
"""


def test_a_run_has_a_table_of_scores_and_no_text_of_a_gated_set(
    toolchain: Toolchain, tmp_path: Path
) -> None:
    del toolchain
    rows = [
        {
            "id": f"q{at}",
            "question": f"The {RARE} number {at}",
            "answers": answers,
            "gold": at % 2,
        }
        for at in range(8)
        if (answers := [f"eats {RARE} leaves {at}.", f"sleeps {at} hours."])
    ]
    (tmp_path / "mine.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "small.yaml").write_text(CONFIG)
    where = ("--config", "small.yaml", "--store", "store", "--out", "out")

    ran = subprocess.run(
        [PROGRAM, "run", *where], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert ran.returncode == 0, ran.stderr
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [one["gated"] for one in results["tasks"]["sets"]] == [False, True]
    assert sorted(results["tasks"]["sets"][1]["ids"]) == [f"q{at}" for at in range(8)]
    for row in (results["reference"], *results["variants"]):
        assert [score["n_tasks"] for score in row["tasks"]] == [20, 8]
        assert row["task_average"]["stderr"] > 0
    assert "| Model | Passages | mine | Avg Score |" in (tmp_path / "out" / "README.md").read_text()
    assert "tasks, % right" in ran.stdout
    said = {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert [file for file, content in said.items() if RARE.encode() in content] == []
    assert RARE not in ran.stdout + ran.stderr
