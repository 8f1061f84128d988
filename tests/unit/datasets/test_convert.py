"""Published rows to tasks: every layout and container, good rows and malformed ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llamacpp_pipeline.datasets import choice_file, rows
from llamacpp_pipeline.datasets.convert import Converted, Part, Recipe, convert
from llamacpp_pipeline.datasets.layouts import (
    Layout,
    LeftOutError,
    MalformedRowError,
    Question,
    question_of,
)
from llamacpp_pipeline.datasets.rows import Container
from llamacpp_pipeline.datasets.task import Form, Task
from llamacpp_pipeline.datasets.templates import Template, templates
from llamacpp_pipeline.errors import InputError

ARC = {
    "id": "Mercury_1",
    "question": "What is wet?",
    "choices": {"text": ["sand", "water"], "label": ["A", "B"]},
    "answerKey": "B",
}
MMLU = {"subject": "high_school_physics", "question": "v?", "choices": ["1 m", "2 m"], "answer": 1}
HELLASWAG = {
    "ind": 24,
    "activity_label": "Roof",
    "ctx": "A man sits. he",
    "endings": ["falls.", "sings.", "eats.", "sleeps."],
    "label": "3",
}
GPQA = {
    "Record ID": "rec1",
    "Question": " Why?\n",
    "Correct Answer": "So.\n",
    **{f"Incorrect Answer {n}": f"No {n}." for n in (1, 2, 3)},
}


@pytest.mark.parametrize(
    ("layout", "row", "question"),
    [
        pytest.param(
            "task",
            {"id": 7, "question": "q", "answers": ["a", "b"], "gold": 1},
            Question(id="7", question="q", answers=("a", "b"), gold=1),
            id="task",
        ),
        pytest.param(
            "hellaswag",
            HELLASWAG,
            Question(
                id="24",
                question="Roof: A man sits. he",
                answers=("falls.", "sings.", "eats.", "sleeps."),
                gold=3,
            ),
            id="hellaswag",
        ),
        pytest.param(
            "hellaswag",
            {
                "ctx_a": "[header] How to sit [title] Choose a  chair. [step] Look.",
                "ctx_b": "",
                "activity_label": "Home",
                "endings": ["[step] Sit.", "b"],
                "label": 0,
            },
            Question(
                id=None,
                question="Home: How to sit. Choose a chair. Look.",
                answers=("Sit.", "b"),
                gold=0,
            ),
            id="hellaswag-wikihow",
        ),
        pytest.param(
            "winogrande",
            {"sentence": "a _ b", "option1": "x", "option2": "y", "answer": "2", "qID": "3Q"},
            Question(id="3Q", question="a _ b", answers=("x", "y"), gold=1),
            id="winogrande",
        ),
        pytest.param(
            "arc",
            ARC,
            Question(id="Mercury_1", question="What is wet?", answers=("sand", "water"), gold=1),
            id="arc",
        ),
        pytest.param(
            "arc",
            {
                "id": "x",
                "question": {
                    "stem": "q",
                    "choices": [{"text": "a", "label": "1"}, {"text": "b", "label": "2"}],
                },
                "answerKey": "1",
            },
            Question(id="x", question="q", answers=("a", "b"), gold=0),
            id="arc-of-its-publisher",
        ),
        pytest.param(
            "mmlu",
            MMLU,
            Question(
                id=None,
                question="v?",
                answers=("1 m", "2 m"),
                gold=1,
                subject="high school physics",
            ),
            id="mmlu",
        ),
        pytest.param(
            "mmlu",
            {"question": "v?", "choices": ["1", "2"], "answer": "B"},
            Question(id=None, question="v?", answers=("1", "2"), gold=1),
            id="mmlu-letter",
        ),
        pytest.param(
            "mmlu-redux",
            {"question": "v?", "choices": ["1", "2"], "answer": 0, "error_type": "ok"},
            Question(id=None, question="v?", answers=("1", "2"), gold=0),
            id="mmlu-redux",
        ),
        pytest.param(
            "truthfulqa-mc1",
            {"question": "q", "mc1_targets": {"yes": 0, "no": 1}},
            Question(id=None, question="q", answers=("yes", "no"), gold=1),
            id="truthfulqa",
        ),
        pytest.param(
            "truthfulqa-mc1",
            {"question": "q", "mc1_targets": {"choices": ["yes", "no"], "labels": [1, 0]}},
            Question(id=None, question="q", answers=("yes", "no"), gold=0),
            id="truthfulqa-on-the-hub",
        ),
        pytest.param(
            "gpqa",
            {**GPQA, "Subdomain": "Optics"},
            Question(
                id="rec1",
                question="Why?",
                answers=("No 3.", "So.", "No 2.", "No 1."),  # by hash, not as published
                gold=1,
                subject="Optics",
            ),
            id="gpqa",
        ),
    ],
)
def test_a_row_of_each_layout(layout: Layout, row: dict[str, Any], question: Question) -> None:
    assert question_of(row, layout) == question


@pytest.mark.parametrize("layout", ["truthfulqa-mc1", "gpqa"])
def test_what_is_published_with_the_right_answer_first_is_mixed(layout: Layout) -> None:
    places = set()
    for at in range(40):
        targets = {f"right {at}": 1, "wrong": 0, "worse": 0, "worst": 0}
        row = {**GPQA, "Question": f"q{at}", "question": f"q{at}", "mc1_targets": targets}
        found = question_of({**row, "Correct Answer": f"right {at}"}, layout)
        assert found.answers[found.gold] == f"right {at}"
        assert len(set(found.answers)) == 4
        places.add(found.gold)
    assert places == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("layout", "row", "why"),
    [
        pytest.param("task", {"question": "q", "answers": ["a"]}, "no `gold`", id="gold"),
        pytest.param(
            "task",
            {"question": "q", "answers": "ab", "gold": 0},
            "the answers are no list of texts",
            id="answers",
        ),
        pytest.param(
            "task", {"question": 1, "answers": ["a"], "gold": 0}, "`question` is no text", id="text"
        ),
        pytest.param("hellaswag", {**HELLASWAG, "label": ""}, "no number", id="test-split"),
        pytest.param("hellaswag", {**HELLASWAG, "ctx": None}, "no `ctx_b`", id="context"),
        pytest.param("arc", {**ARC, "answerKey": "C"}, "none of the labels", id="key"),
        pytest.param("arc", {**ARC, "choices": ["a"]}, "neither `text` nor `label`", id="choices"),
        pytest.param(
            "arc",
            {**ARC, "choices": {"text": ["a", "b"], "label": ["A"]}},
            "2 choices and 1 labels",
            id="labels",
        ),
        pytest.param("mmlu", {**MMLU, "answer": True}, "no number", id="true"),
        pytest.param("mmlu-redux", MMLU, "no `error_type`", id="redux"),
        pytest.param(
            "truthfulqa-mc1",
            {"question": "q", "mc1_targets": {"a": 1, "b": 1}},
            "2 right answers, where one is wanted",
            id="two-right",
        ),
        pytest.param(
            "truthfulqa-mc1", {"question": "q", "mc1_targets": ["a"]}, "no mapping", id="targets"
        ),
        pytest.param(
            "gpqa", {**GPQA, "Incorrect Answer 2": None}, "no `Incorrect Answer 2`", id="gpqa"
        ),
    ],
)
def test_a_malformed_row_says_what_is_wrong(layout: Layout, row: dict[str, Any], why: str) -> None:
    with pytest.raises(MalformedRowError, match=why):
        question_of(row, layout)


def test_a_row_that_its_publisher_calls_wrong_is_left_out() -> None:
    with pytest.raises(LeftOutError, match="error_type wrong_groundtruth"):
        question_of({**MMLU, "error_type": "wrong_groundtruth"}, "mmlu-redux")


def made(
    path: Path,
    container: Container,
    layout: Layout,
    *,
    form: Form = "multiple-choice",
    template: str = "continuation",
    n_tasks: int | None = None,
) -> Converted:
    part = Part(label="", files=(path,), container=container, layout=layout)
    recipe = Recipe(form=form, template=templates()[template], n_tasks=n_tasks, seed=1)
    return convert([part], recipe)


def lines(path: Path, found: Sequence[object]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in found), encoding="utf-8")
    return path


def by_id(converted: Converted) -> dict[str, Task]:
    return {task.id: task for task in converted.tasks}


def test_json_lines_with_rows_that_are_none(tmp_path: Path) -> None:
    file = lines(tmp_path / "a.jsonl", [ARC, {**ARC, "id": "b"}, {**ARC, "id": "c"}, [1], ARC])
    file.write_text(file.read_text(encoding="utf-8") + "\n{oops\n", encoding="utf-8")
    found = made(file, "jsonl", "arc", template="question-answer")
    assert found.n_read == 6
    assert [(row.row, row.why.partition(":")[0]) for row in found.malformed] == [
        ("line 4", "not a JSON object"),
        ("line 5", "a second row of id Mercury_1"),
        ("line 7", "not JSON"),
    ]
    assert by_id(found).keys() == {"Mercury_1", "b", "c"}
    assert by_id(found)["b"] == Task(
        id="b",
        question="Question: What is wet?\nAnswer:",
        answers=("sand", "water"),
        gold=1,
    )


def test_a_source_without_ids_numbers_its_rows(tmp_path: Path) -> None:
    found = made(lines(tmp_path / "a.jsonl", [MMLU, MMLU]), "jsonl", "mmlu")
    assert by_id(found).keys() == {"1", "2"}


def test_json(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    row = {"question": "q", "mc1_targets": {"yes": 0, "no": 1}}
    file.write_text(json.dumps([row, "x", row]), encoding="utf-8")
    found = made(file, "json", "truthfulqa-mc1")
    assert by_id(found).keys() == {"1", "3"}
    assert [row.row for row in found.malformed] == ["row 2"]


def test_csv_with_quotes_and_line_breaks_in_fields(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    head = ",".join(GPQA)
    file.write_text(
        f'\ufeff{head}\nrec1,"Why,\n""so""?",A.,B.,C.,D.\nrec2,Why?,A.,B.\nrec3,Why?,A.,B.,C.,D.\n',
        encoding="utf-8",
    )
    found = made(file, "csv", "gpqa")
    assert by_id(found)["rec1"].question == 'Why,\n"so"?'
    assert [(row.row, row.why) for row in found.malformed] == [
        ("row 2", "another number of fields than the header has")
    ]


def test_ready_made_files_of_each_form(tmp_path: Path) -> None:
    six, commas, binary = (tmp_path / name for name in ("a.txt", "a.csv", "a.bin"))
    six.write_bytes(b"Cats\n1\na\nb\nc\nd\n")
    commas.write_bytes(b"0,a _ b,x,y,1\n1,nothing,x,y,1\n2,a _ c,x,y,2")
    binary.write_bytes(choice_file.encode([Task(id="1", question="q", answers=("a", "b"), gold=1)]))
    assert by_id(made(six, "six-line", "task", form="hellaswag"))["1"].gold == 1
    found = made(commas, "winogrande-csv", "task", form="winogrande")
    assert by_id(found).keys() == {"1", "3"}
    assert [row.row for row in found.malformed] == ["line 2"]
    assert by_id(made(binary, "choice-file", "task"))["1"].answers == ("a", "b")


def test_tasks_that_the_form_cannot_hold_are_malformed(tmp_path: Path) -> None:
    good = {"question": "a _", "answers": ["b", "c"], "gold": 0}
    found = made(
        lines(tmp_path / "a.jsonl", [good, {**good, "answers": ["b,", "c"]}, good]),
        *("jsonl", "task"),
        form="winogrande",
    )
    assert [(row.row, row.why) for row in found.malformed] == [
        ("line 2", "commas and quotation marks that this form cannot hold")
    ]


def test_a_file_of_another_format_is_refused_with_its_first_rows(tmp_path: Path) -> None:
    file = lines(tmp_path / "a.jsonl", [MMLU] * 6)
    with pytest.raises(InputError, match="6 of 6 rows are malformed") as caught:
        made(file, "jsonl", "arc")
    assert caught.value.evidence[0] == "line 1: `choices` has neither `text` nor `label`"
    assert len(caught.value.evidence) == 5
    assert caught.value.hint is not None
    assert "`layout`" in caught.value.hint


@pytest.mark.parametrize(
    ("container", "content", "message"),
    [
        pytest.param("json", b"{", "a.file cannot be read as json", id="json"),
        pytest.param("json", b"{}", "a.file: not a JSON list", id="no-list"),
        pytest.param("jsonl", b"\xff", "a.file cannot be read as jsonl", id="utf-8"),
        pytest.param("six-line", b"a\n", "a.file: not in the six-line form", id="six-line"),
        pytest.param("choice-file", b"a", "a.file: not a file of multiple-choice", id="binary"),
    ],
)
def test_a_file_that_cannot_be_read(
    tmp_path: Path, container: Container, content: bytes, message: str
) -> None:
    file = tmp_path / "a.file"
    file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        made(file, container, "task")


def test_without_pyarrow_parquet_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "find_spec", lambda _: None)
    with pytest.raises(InputError, match="reading parquet needs pyarrow") as caught:
        made(tmp_path / "a.parquet", "parquet", "arc")
    assert caught.value.hint == "pip install 'llamacpp-pipeline[parquet]'"


def test_parquet_and_arrow_give_the_rows_that_json_gives(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    from pyarrow import ipc, parquet  # noqa: PLC0415

    found = [ARC, {**ARC, "id": "b"}]
    table = pyarrow.Table.from_pylist(found)
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=1)
    with ipc.new_stream(tmp_path / "a.arrow", table.schema) as stream:
        stream.write_table(table)
    wanted = made(lines(tmp_path / "a.jsonl", found), "jsonl", "arc")
    assert made(tmp_path / "a.parquet", "parquet", "arc") == wanted
    assert made(tmp_path / "a.arrow", "arrow", "arc") == wanted


def test_several_parts_and_files_tell_their_ids_apart(tmp_path: Path) -> None:
    files = [lines(tmp_path / f"{name}.jsonl", [MMLU]) for name in ("law", "math")]
    parts = [
        Part(label="easy", files=(lines(tmp_path / "e", [ARC]),), container="jsonl", layout="arc"),
        Part(label="hard", files=tuple(files), container="jsonl", layout="mmlu"),
    ]
    recipe = Recipe(
        form="multiple-choice", template=templates()["continuation"], n_tasks=None, seed=1
    )
    assert by_id(convert(parts, recipe)).keys() == {"easy:Mercury_1", "hard:law:1", "hard:math:1"}


def test_templates_leave_braces_in_questions_alone() -> None:
    asked = Question(id=None, question="{answer} {x}", answers=("{question}",), gold=0, subject="s")
    template = Template(
        name="t", version=1, question="On {subject}: {question}", answer="-{answer}"
    )
    assert template.filled_question(asked) == "On s: {answer} {x}"
    assert template.filled_answer(asked, asked.answers[0]) == "-{question}"


def test_every_template_has_its_places() -> None:
    for template in templates().values():
        assert "{question}" in template.question
        assert "{answer}" in template.answer
        assert not template.question.endswith(" ")  # the tool itself puts a space between the two


def test_the_choice_is_by_seed_and_does_not_depend_on_the_order(tmp_path: Path) -> None:
    found = [{**ARC, "id": f"q{at}"} for at in range(50)]
    ten = made(lines(tmp_path / "a.jsonl", found), "jsonl", "arc", n_tasks=10)
    back = made(lines(tmp_path / "b.jsonl", found[::-1]), "jsonl", "arc", n_tasks=10)
    twenty = made(tmp_path / "a.jsonl", "jsonl", "arc", n_tasks=20)
    all_of_them = made(tmp_path / "a.jsonl", "jsonl", "arc", n_tasks=1000)
    assert [task.id for task in ten.tasks[:5]] == ["q30", "q24", "q43", "q38", "q18"]
    assert ten.tasks == back.tasks == twenty.tasks[:10]
    assert len(all_of_them.tasks) == 50


def test_another_seed_chooses_otherwise(tmp_path: Path) -> None:
    file = lines(tmp_path / "a.jsonl", [{**ARC, "id": f"q{at}"} for at in range(50)])
    part = Part(label="", files=(file,), container="jsonl", layout="arc")
    template = templates()["continuation"]
    first, second = (
        convert([part], Recipe(form="multiple-choice", template=template, n_tasks=10, seed=seed))
        for seed in (1, 2)
    )
    assert {task.id for task in first.tasks} != {task.id for task in second.tasks}
