"""The three forms: written, read back, and what they cannot hold."""

from __future__ import annotations

import struct

import pytest

from llamacpp_pipeline.datasets import choice_file, hellaswag_text, winogrande_csv
from llamacpp_pipeline.datasets.choice_file import Answers, Entry
from llamacpp_pipeline.datasets.task import Task, refusal
from llamacpp_pipeline.errors import InputError


def task(question: str = "Cats", *answers: str, gold: int = 0, name: str = "1") -> Task:
    return Task(id=name, question=question, answers=answers or ("purr.", "bark."), gold=gold)


FOUR = ("purr.", "bark.", "moo.", "sing \\n softly.")
WHOLE = (
    b"\x02\0\0\0"  # two tasks
    b"\x0c\0\0\0\x36\0\0\0"  # at 12 and 54
    b"\x04\0\0\0Cats\x02\0\0\0\x05\0\0\0purr.\x05\0\0\0bark.\x01\0\0\0\0\0\0\0\0\0\0\0"
    b"\x05\0\0\0D\xc3\xb6gs\x02\0\0\0\x05\0\0\0purr.\x05\0\0\0bark.\0\0\0\0\x01\0\0\0\0\0\0\0"
)
TWO = (task(), task("Dögs", gold=1, name="2"))


@pytest.mark.parametrize(
    ("made", "why"),
    [
        pytest.param(task(" \n"), "the question is empty", id="question"),
        pytest.param(task("q", "one"), "fewer than two answers", id="one-answer"),
        pytest.param(task("q", "one", " "), "an answer is empty", id="empty-answer"),
        pytest.param(task(gold=2), "the right answer is number 2, of 2 counted from 0", id="gold"),
        pytest.param(
            task("q", "a", "b", "a"), "the right answer stands there twice", id="twice-right"
        ),
        pytest.param(
            task("q", "0,1", "0", "0,4"),
            "one answer is the beginning of all the others",
            id="beginning",
        ),
    ],
)
def test_a_task_that_cannot_be_scored_is_refused(made: Task, why: str) -> None:
    assert refusal(made) == why


def test_a_wrong_answer_may_stand_twice_and_some_may_begin_alike() -> None:
    assert refusal(task("q", "a", "b", "b")) is None
    assert refusal(task("q", "0", "1", "0,1")) is None


def test_the_binary_form_is_what_the_tool_reads_byte_for_byte() -> None:
    assert choice_file.encode(TWO) == WHOLE
    assert choice_file.decode(WHOLE) == TWO


def test_the_second_list_of_answers_is_kept() -> None:
    entry = Entry(
        question="q",
        one_right=Answers(texts=("a", "b"), labels=(1, 0)),
        some_right=Answers(texts=("a", "b", "c"), labels=(1, 0, 1)),
    )
    data = choice_file.encode_entries([entry])
    assert choice_file.decode_entries(data) == (entry,)
    assert choice_file.encode_entries(choice_file.decode_entries(data)) == data


@pytest.mark.parametrize(
    ("data", "why"),
    [
        pytest.param(
            b"\x01\0", "it ends at 2, within what begins at 0", id="shorter-than-a-number"
        ),
        pytest.param(b"", "it ends at 0, within what begins at 0", id="empty"),
        pytest.param(bytes(4), "0 tasks in 4 bytes", id="no-tasks"),
        pytest.param(b"Cats: a text", "1937006915 tasks in 12 bytes", id="a-text"),
        pytest.param(WHOLE[:-3], "it ends at 94, within what begins at 93", id="cut"),
        pytest.param(WHOLE + b"\n", "1 bytes after the last task", id="more"),
        pytest.param(
            WHOLE.replace(b"\x36\0\0\0", b"\x38\0\0\0", 1),
            "task 2 begins at 54, its position says 56",
            id="position",
        ),
        pytest.param(
            struct.pack("<III", 1, 8, 1) + b"q" + struct.pack("<I", 101),
            "101 answers at 13",
            id="n",
        ),
        pytest.param(
            struct.pack("<III", 1, 8, 2) + b"\xc3(", "the text at 8 is not UTF-8", id="utf-8"
        ),
    ],
)
def test_another_file_is_not_taken_for_the_binary_form(data: bytes, why: str) -> None:
    with pytest.raises(InputError, match="not a file of multiple-choice tasks") as caught:
        choice_file.decode(data)
    assert caught.value.evidence == (why,)


def test_a_binary_task_without_one_right_answer_is_refused() -> None:
    entry = Entry(question="q", one_right=Answers(texts=("a", "b"), labels=(1, 1)))
    with pytest.raises(InputError, match="task 1 has 2 right answers"):
        choice_file.decode(choice_file.encode_entries([entry]))


def test_the_binary_form_holds_a_hundred_answers() -> None:
    def with_answers(n: int) -> Task:
        return task("q", *(f"{at} is it" for at in range(n)))

    assert choice_file.decode(choice_file.encode([with_answers(100)])) == (with_answers(100),)
    assert choice_file.refusal(with_answers(101)) == "101 answers, where this form has at most 100"
    with pytest.raises(ValueError, match="task 1: 101 answers"):
        choice_file.encode([with_answers(101)])


def test_the_six_line_form() -> None:
    made = (task("Cats", *FOUR, gold=2), task("Dögs", *FOUR, gold=0, name="2"))
    data = hellaswag_text.encode(made)
    assert data.decode().split("\n")[:3] == ["Cats", "2", "purr."]
    assert data.endswith(b"softly.\n")
    assert hellaswag_text.decode(data) == made
    assert hellaswag_text.decode(data.removesuffix(b"\n")) == made  # as some files have it


@pytest.mark.parametrize(
    ("made", "why"),
    [
        pytest.param(task(), "2 endings, where this form has 4", id="two"),
        pytest.param(
            task("Cats\nand", *FOUR), "a line break in the context or an ending", id="break"
        ),
        pytest.param(
            task("Cats", "a\r", "b", "c", "d"),
            "a line break in the context or an ending",
            id="carriage-return",
        ),
    ],
)
def test_what_six_lines_cannot_hold(made: Task, why: str) -> None:
    assert hellaswag_text.refusal(made) == why
    with pytest.raises(ValueError, match="task 1: "):
        hellaswag_text.encode([made])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "0 lines are not whole tasks", id="empty"),
        pytest.param(b"a\n1\nb\nc\nd\n", "5 lines are not whole tasks", id="five"),
        pytest.param(b"a\nx\nb\nc\nd\ne\n", "task 1: its second line", id="not-a-number"),
        pytest.param(b"a\n4\nb\nc\nd\ne\n", "task 1: its second line", id="too-large"),
        pytest.param(b"a\r\n1\r\nb\r\nc\r\nd\r\ne\r\n", "carriage returns", id="dos"),
        pytest.param(b"\xff\n1\nb\nc\nd\ne\n", "not UTF-8", id="utf-8"),
    ],
)
def test_another_file_is_not_taken_for_the_six_line_form(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        hellaswag_text.decode(data)


@pytest.mark.parametrize(
    ("question", "line"),
    [
        pytest.param("Ann hit _ .", "0,Ann hit _ .,Bob,Eve,2", id="bare"),
        pytest.param("Ann, then, hit _ .", '0,"Ann, then, hit _ .",Bob,Eve,2', id="commas"),
        pytest.param('Ann "hit" _ .', '0,Ann "hit" _ .,Bob,Eve,2', id="quotes"),
        pytest.param('Ann "hit, once" _ .', '0,Ann "hit, once" _ .,Bob,Eve,2', id="within"),
        pytest.param('"Ann" hit _ .', '0,""Ann" hit _ .",Bob,Eve,2', id="quote-first"),
    ],
)
def test_a_sentence_is_written_so_that_the_tool_reads_it_back(question: str, line: str) -> None:
    made = task(question, "Bob", "Eve", gold=1, name="0")
    assert winogrande_csv.encode([made]) == f"{line}\n".encode()
    assert winogrande_csv.decode(f"{line}\n".encode()) == (made,)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        pytest.param(task("a _", "b", "c", "d"), "3 choices, where this form has 2", id="three"),
        pytest.param(task("none", "b", "c"), "0 gaps `_` in the sentence", id="no-gap"),
        pytest.param(task("_ and _", "b", "c"), "2 gaps `_` in the sentence", id="two-gaps"),
        pytest.param(task("a _", "b,", "c"), "commas and quotation marks", id="comma-in-choice"),
        pytest.param(
            task('a "b said _, c', "b", "c"), "commas and quotation marks", id="both-marks"
        ),
        pytest.param(task("a\n_", "b", "c"), "a line break", id="break"),
    ],
)
def test_what_the_comma_form_cannot_hold(made: Task, why: str) -> None:
    assert str(winogrande_csv.refusal(made)).startswith(why)
    with pytest.raises(ValueError, match="task 1: "):
        winogrande_csv.encode([made])


def test_lines_that_the_tool_would_skip_are_named() -> None:
    data = b"0,a _ b,c,d,1\n1,a _ b,c,d\n2,a b,c,d,1\n3,a _ b,c,d,3\n4,a _ b,c,d,12\n5,_ b,c,d,2"
    found = winogrande_csv.decode(data)
    assert [read if isinstance(read, str) else read.id for read in found] == [
        "0",
        "not five fields divided by commas",
        *["no gap `_` in the sentence, or an answer that is neither 1 nor 2"] * 3,
        "5",
    ]
