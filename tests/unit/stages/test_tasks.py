from __future__ import annotations

from pathlib import Path

import pytest

from llamacpp_pipeline.datasets.forms import FORMS
from llamacpp_pipeline.datasets.index import index_of
from llamacpp_pipeline.datasets.shuffle import hellaswag_order
from llamacpp_pipeline.datasets.task import Form, Task
from llamacpp_pipeline.errors import InputError, PipelineError, UnreadableOutputError
from llamacpp_pipeline.stages.answer_bits import unpacked
from llamacpp_pipeline.stages.task_log import answers, standard_error
from llamacpp_pipeline.stages.tasks import (
    STAGE,
    TasksParams,
    TasksResult,
    argv,
    complete,
    parse,
    run_order,
)
from tests.unit.stages.makers import recorded, write_gguf

TOOL = "llama-perplexity"
# The right answers of the 120 tasks behind the recorded logs, in the order of their files.
GOLDS: dict[Form, str] = {
    "hellaswag": "332102020130131213113022012302100003303332032000012230310130"
    "130233010320211111013033110030100110012113130102313033110322",
    "winogrande": "001111010100110110011010010100100011101011011111010001000111"
    "111110111101111001101001111110111111100011001011000011001101",
    "multiple-choice": "233000120201441201230134022130434133202021321122411443420111"
    "120241342133242244004321333312322040134024111030111121404011",
}
FEW = "100110001111"  # of the 12 tasks of the other WinoGrande logs
LOG: dict[Form, str] = {
    "hellaswag": "hellaswag",
    "winogrande": "winogrande",
    "multiple-choice": "multiple_choice",
}
N_ANSWERS: dict[Form, int] = {"hellaswag": 4, "winogrande": 2, "multiple-choice": 5}
FORM_IDS = list(GOLDS)


def made(form: Form, golds: str) -> list[Task]:
    """Tasks with these right answers."""
    question = "The _ is" if form == "winogrande" else "The answer is"
    words = tuple(f"word{at}" for at in range(N_ANSWERS[form]))
    return [
        Task(id=f"t{at}", question=question, answers=words, gold=int(gold))
        for at, gold in enumerate(golds)
    ]


def written(folder: Path, form: Form, golds: str) -> dict[str, Path]:
    """The inputs of a step that runs such tasks."""
    paths = {"model": folder / "m.gguf", "tasks": folder / "tasks", "index": folder / "index"}
    tasks = made(form, golds)
    write_gguf(paths["model"])
    paths["tasks"].write_bytes(FORMS[form].encode(tasks))
    paths["index"].write_text(index_of(tasks), encoding="utf-8")
    return paths


def edited(log: str, old: str, new: str) -> str:
    assert old in log
    return log.replace(old, new)


def test_all_tasks_of_the_file_are_run(tmp_path: Path) -> None:
    paths = written(tmp_path, "hellaswag", "0123")

    assert argv(TasksParams(form="hellaswag", n_ctx=256), paths) == (
        TOOL,
        *("--model", str(paths["model"])),
        *("--hellaswag", "--hellaswag-tasks", "4"),
        *("--binary-file", str(paths["tasks"]), "--no-escape"),
        *("--ctx-size", "256", "--parallel", "4", "--batch-size", "2048", "--ubatch-size", "512"),
        *("--flash-attn", "auto", "--no-warmup"),
    )


@pytest.mark.parametrize(
    ("form", "flag"), [("winogrande", "--winogrande"), ("multiple-choice", "--multiple-choice")]
)
def test_each_form_has_its_own_flags(tmp_path: Path, form: Form, flag: str) -> None:
    command = argv(TasksParams(form=form), written(tmp_path, form, "010"))

    assert command[3:6] == (flag, f"{flag}-tasks", "3")


def test_there_are_sequences_for_all_answers_of_a_task(tmp_path: Path) -> None:
    paths = written(tmp_path, "multiple-choice", "012")
    five, many = TasksParams(form="multiple-choice"), {"form": "multiple-choice", "n_parallel": 16}

    assert "--parallel 5 " in " ".join(argv(five, paths))
    assert "--parallel 16 " in " ".join(argv(TasksParams.model_validate(many), paths))


def test_fewer_sequences_than_the_tool_takes_are_refused() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 4"):
        TasksParams(form="hellaswag", n_parallel=2)


@pytest.mark.parametrize("form", FORM_IDS)
def test_a_file_of_another_form_is_refused_before_anything_runs(tmp_path: Path, form: Form) -> None:
    paths = written(tmp_path, form, "0101")
    other = next(each for each in FORM_IDS if each != form)
    paths["tasks"].write_bytes(FORMS[other].encode(made(other, "01010")))

    with pytest.raises(InputError, match=r"form|multiple-choice tasks|not the index's|UTF-8"):
        argv(TasksParams(form=form), paths)


@pytest.mark.parametrize(
    ("golds", "message"),
    [
        pytest.param("0102", "task 4 of the file is not the index's, t3", id="another-answer"),
        pytest.param("010", "task 4 of the file is not the index's, t3", id="fewer"),
        pytest.param("01011", "the file has 5 tasks, the index 4", id="more"),
    ],
)
def test_another_choice_of_tasks_is_refused(tmp_path: Path, golds: str, message: str) -> None:
    paths = written(tmp_path, "hellaswag", "0101")
    paths["tasks"].write_bytes(FORMS["hellaswag"].encode(made("hellaswag", golds)))

    with pytest.raises(InputError, match=message):
        argv(TasksParams(form="hellaswag"), paths)


def test_an_index_without_tasks_is_refused(tmp_path: Path) -> None:
    paths = written(tmp_path, "hellaswag", "0")
    paths["index"].write_text("")

    with pytest.raises(InputError, match="no task in the index"):
        argv(TasksParams(form="hellaswag"), paths)


@pytest.mark.parametrize(
    ("form", "n_correct", "value", "stderr", "chance"),
    [
        pytest.param("hellaswag", 50, 41.66667, 4.51934, 25.0),
        pytest.param("winogrande", 84, 70.0, 4.2008, 50.0),
        pytest.param("multiple-choice", None, None, None, 20.0),
    ],
    ids=FORM_IDS,
)
def test_answers_add_up_to_the_score_that_the_tool_prints(
    tmp_path: Path,
    form: Form,
    n_correct: int | None,
    value: float | None,
    stderr: float | None,
    chance: float,
) -> None:
    log = recorded(TOOL, LOG[form])
    result = parse(log, written(tmp_path, form, GOLDS[form]))

    if n_correct is None or value is None or stderr is None:
        final = log.partition("Final result: ")[2].split()
        value, stderr = float(final[0]), float(final[2])
        n_correct = round(value * 1.2)
    assert (result.form, result.n_tasks, result.n_correct) == (form, 120, n_correct)
    assert result.score.value == pytest.approx(value, abs=1e-4)
    assert result.score.stderr == pytest.approx(stderr, abs=1e-4)
    assert result.chance == pytest.approx(chance)
    assert sum(unpacked(result.correct, 120)) == n_correct


def test_the_answer_to_each_winogrande_task_is_the_one_printed(tmp_path: Path) -> None:
    result = parse(recorded(TOOL, "winogrande_few"), written(tmp_path, "winogrande", FEW))

    rows = [line.split() for line in recorded(TOOL, "winogrande_few").splitlines() if "\t" in line]
    assert len(rows) == 12
    assert [int(row[5]) - 1 for row in rows] == [int(gold) for gold in FEW]
    assert list(unpacked(result.correct, 12)) == [row[4] == row[5] for row in rows]


def test_few_winogrande_tasks_have_no_final_score_and_need_none(tmp_path: Path) -> None:
    log = recorded(TOOL, "winogrande_few")

    assert "Final" not in log
    assert parse(log, written(tmp_path, "winogrande", FEW)).n_correct == 9


def test_hellaswag_answers_are_put_into_the_order_of_the_file(tmp_path: Path) -> None:
    log = recorded(TOOL, "hellaswag")
    result = parse(log, written(tmp_path, "hellaswag", GOLDS["hellaswag"]))

    run = answers(log, "hellaswag", n_tasks=120)
    order = hellaswag_order(120)
    found = unpacked(result.correct, 120)
    assert result.order == "file"
    assert [found[at] for at in order] == list(run)
    assert list(found) != list(run)


def test_where_the_order_of_hellaswag_is_unknown_it_is_left(tmp_path: Path) -> None:
    del tmp_path
    assert run_order("hellaswag", 9, platform="darwin") is None
    assert run_order("winogrande", 3, platform="darwin") == (0, 1, 2)


@pytest.mark.parametrize(
    ("case", "form", "message"),
    [
        pytest.param("hellaswag", "hellaswag", "t3 takes 279 tokens", id="hellaswag"),
        pytest.param("winogrande", "winogrande", "t5 takes 262 tokens", id="winogrande"),
        pytest.param("multiple_choice", "multiple-choice", "t0 takes 295 tokens", id="choice"),
    ],
)
def test_a_task_longer_than_the_context_is_named(
    tmp_path: Path, case: str, form: Form, message: str
) -> None:
    paths = written(tmp_path, form, "0" * 12)
    order = run_order(form, 12, platform="linux")
    assert order is not None
    if form == "hellaswag":
        message = message.replace("t3", f"t{order[3]}")

    with pytest.raises(InputError, match=message) as caught:
        parse(recorded(TOOL, f"{case}_context_too_small"), paths)
    assert "set `tasks.n_ctx` to at least" in (caught.value.hint or "")


def test_the_context_advised_would_do(tmp_path: Path) -> None:
    paths = written(tmp_path, "multiple-choice", "0" * 12)

    with pytest.raises(InputError) as caught:
        parse(recorded(TOOL, "multiple_choice_context_too_small"), paths)
    assert "at least 59," in (caught.value.hint or "")  # 5 sequences of 59 are 295 tokens


@pytest.mark.parametrize(
    ("case", "form", "n_tasks"),
    [
        ("hellaswag_wrong_file", "hellaswag", 12),
        ("winogrande_wrong_file", "winogrande", 12),
        ("winogrande_bad_rows", "winogrande", 12),
        ("multiple_choice_cut", "multiple-choice", 12),
        ("multiple_choice_empty_answer", "multiple-choice", 1),
    ],
)
def test_what_the_tool_cannot_read_is_said(
    tmp_path: Path, case: str, form: Form, n_tasks: int
) -> None:
    with pytest.raises(InputError, match="not in the form that was asked for") as caught:
        parse(recorded(TOOL, case), written(tmp_path, form, "0" * n_tasks))
    assert caught.value.evidence


def test_no_row_of_a_set_is_quoted_in_a_failure(tmp_path: Path) -> None:
    log = recorded(TOOL, "winogrande_bad_rows")
    assert "no _ in <" in log

    with pytest.raises(InputError) as caught:
        parse(log, written(tmp_path, "winogrande", FEW))
    assert any("<...>" in line for line in caught.value.evidence)
    assert not any(len(line) > 80 for line in caught.value.evidence)


def test_a_label_that_is_no_number_aborts_the_tool_and_is_explained() -> None:
    found = STAGE.explain(recorded(TOOL, "hellaswag_no_label"))

    assert isinstance(found, InputError)
    assert "not in the form" in found.message


@pytest.mark.parametrize(
    ("case", "form", "message"),
    [
        ("winogrande_last_row_lost", "winogrande", "12 tasks: it loaded 11"),
        ("hellaswag_fewer_tasks", "hellaswag", "one row for each of 12 tasks: 8 are there"),
    ],
)
def test_a_task_that_was_not_run_is_missed(
    tmp_path: Path, case: str, form: Form, message: str
) -> None:
    with pytest.raises(UnreadableOutputError, match=message):
        parse(recorded(TOOL, case), written(tmp_path, form, "0" * 12))


def test_more_answers_than_sequences_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableOutputError) as caught:
        parse(
            recorded(TOOL, "multiple_choice_more_answers"),
            written(tmp_path, "multiple-choice", "0"),
        )
    assert "higher -np" in caught.value.evidence[0]


@pytest.mark.parametrize(
    ("case", "form", "golds"),
    [
        pytest.param("hellaswag_nan", "hellaswag", GOLDS["hellaswag"], id="hellaswag"),
        pytest.param("winogrande_nan", "winogrande", FEW, id="winogrande"),
        pytest.param(
            "multiple_choice_nan", "multiple-choice", GOLDS["multiple-choice"], id="choice"
        ),
    ],
)
def test_a_model_whose_scores_are_not_numbers_has_none(
    tmp_path: Path, case: str, form: Form, golds: str
) -> None:
    with pytest.raises(InputError, match="not numbers"):
        parse(recorded(TOOL, case), written(tmp_path, form, golds))


@pytest.mark.parametrize("gold", ["0", "1"])
def test_a_set_whose_right_answers_stand_in_one_place_cannot_hide_nan(
    tmp_path: Path, gold: str
) -> None:
    right = 120 if gold == "0" else 0
    shares = "".join(f"{n}\t{100 * min(n, right) / n:.8f}\n" for n in range(1, 121))
    log = f"multiple_choice_score: there are 120 tasks\n{shares}"
    log += f"Final result: {100 * right / 120:.4f} +/- 0.0000\n"

    with pytest.raises(InputError, match="first answer of every task") as caught:
        parse(log, written(tmp_path, "multiple-choice", gold * 120))
    assert "mix the order" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("form", "old", "new", "message"),
    [
        pytest.param("hellaswag", "\n7\t", "\n8\t", "one row for each", id="a-row-missing"),
        pytest.param("hellaswag", "\n120\t41.6", "\n120\t41.7", "a share of right", id="no-share"),
        pytest.param("hellaswag", "\n120\t41.66666667", "\n120\t40.00000000", "a share", id="jump"),
        pytest.param("winogrande", ": 70.0000", ": 71.0000", "its rows add up to", id="final"),
        pytest.param("winogrande", "+/- 4.2", "+/- 4.3", "its rows add up to", id="error"),
        pytest.param("winogrande", "Final Wino", "Wino", "its final score", id="no-final"),
        pytest.param("multiple-choice", "Final res", "Res", "its final score", id="no-result"),
    ],
)
def test_what_does_not_add_up_is_refused(
    tmp_path: Path, form: Form, old: str, new: str, message: str
) -> None:
    log = edited(recorded(TOOL, LOG[form]), old, new)

    with pytest.raises(UnreadableOutputError, match=message):
        parse(log, written(tmp_path, form, GOLDS[form]))


def test_a_choice_that_its_share_does_not_bear_out_is_refused(tmp_path: Path) -> None:
    log = recorded(TOOL, "winogrande_few")
    last = log.rstrip().splitlines()[-1]
    swapped = f"{last[:-4]}{last[-1]}  {'1' if last[-1] == '2' else '2'}"

    with pytest.raises(UnreadableOutputError, match="at task 12"):
        parse(edited(log, last, swapped), written(tmp_path, "winogrande", FEW))


def test_a_log_without_tasks_is_no_score(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="a word on the tasks"):
        parse(recorded(TOOL, "good"), written(tmp_path, "hellaswag", "0"))


def test_the_result_is_of_the_form_asked_for(tmp_path: Path) -> None:
    paths = written(tmp_path, "winogrande", FEW)
    result = parse(recorded(TOOL, "winogrande_few"), paths)

    asked = TasksParams(form="winogrande", n_parallel=8)
    assert complete(asked, result, paths).n_parallel == 8
    with pytest.raises(UnreadableOutputError, match="it ran winogrande"):
        complete(TasksParams(form="hellaswag"), result, paths)


def test_the_result_travels_as_json(tmp_path: Path) -> None:
    result = parse(recorded(TOOL, "winogrande_few"), written(tmp_path, "winogrande", FEW))

    assert TasksResult.model_validate_json(result.model_dump_json()) == result
    assert len(result.correct) == 3  # digits, for twelve tasks


def test_progress_is_read_while_it_runs() -> None:
    log = recorded(TOOL, "hellaswag")
    progress = STAGE.progress
    assert progress is not None
    assert progress.total is not None

    done = [int(match["n"]) for match in progress.done.finditer(log)]
    assert done[-1] == 120
    for form in FORM_IDS:
        totals = [int(m["n"]) for m in progress.total.finditer(recorded(TOOL, LOG[form]))]
        assert totals[-1] == 120


@pytest.mark.parametrize(
    ("n_correct", "n_tasks", "printed"),
    [
        pytest.param(423, 750, 1.8119, id="56.4000 ±1.8119"),
        pytest.param(214, 750, 1.6500, id="28.5333 ±1.6500"),
        pytest.param(42, 198, 2.9127, id="21.2121 ±2.9127"),
    ],
)
def test_the_standard_error_is_the_one_on_published_cards(
    n_correct: int, n_tasks: int, printed: float
) -> None:
    error = standard_error(n_correct, n_tasks)

    assert error is not None
    assert round(100 * error, 4) == printed


def test_one_task_has_no_standard_error() -> None:
    assert standard_error(1, 1) is None
