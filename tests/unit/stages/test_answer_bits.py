from __future__ import annotations

import pytest

from llamacpp_pipeline.stages.answer_bits import packed, unpacked


def test_the_first_answer_is_the_highest_bit() -> None:
    assert packed([True, False, False, False, False, False, False, True, True]) == "818"


@pytest.mark.parametrize("n_tasks", [1, 3, 4, 5, 750])
def test_answers_come_back_as_they_were(n_tasks: int) -> None:
    answers = tuple(at * at % 7 < 3 for at in range(n_tasks))

    assert unpacked(packed(answers), n_tasks) == answers


@pytest.mark.parametrize(
    ("text", "n_tasks", "message"),
    [
        ("0xg", 12, "is not hexadecimal"),
        ("818", 8, "3 digits are not the answers to 8 tasks"),
        ("818", 13, "3 digits are not the answers to 13 tasks"),
        ("f", 3, "1 digits are not the answers to 3 tasks"),
    ],
)
def test_what_is_not_the_answers_to_so_many_tasks_is_refused(
    text: str, n_tasks: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        unpacked(text, n_tasks)
