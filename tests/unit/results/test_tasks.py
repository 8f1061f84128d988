from __future__ import annotations

from typing import Any

import pytest

from llamacpp_pipeline.errors import MixedConditionsError
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.document import (
    ResultsDocument,
    document_from_json,
    document_json,
)
from llamacpp_pipeline.results.run import RunRecords
from llamacpp_pipeline.results.statistics import holm
from llamacpp_pipeline.results.tasks import TaskFacts
from llamacpp_pipeline.stages.answer_bits import packed
from tests.unit.results.sample import (
    CREATED,
    N_TASKS,
    NOBODY,
    changed,
    dataset_result,
    sample_run,
    with_result,
)

SETS = ["demo-passages", "demo-names"]
TASKS: dict[str, Any] = {"tasks": {"sets": SETS, "n_tasks": N_TASKS}}


def scored(*, without: tuple[str, ...] = ()) -> RunRecords:
    return sample_run(config=TASKS, without=without)


def document(run: RunRecords) -> ResultsDocument:
    return results_document(run, created=CREATED, redactor=NOBODY)


def facts(run: RunRecords) -> TaskFacts:
    found = document(run).tasks
    assert found is not None
    return found


def test_every_file_has_its_scores_in_the_order_of_the_sets() -> None:
    rows = document(scored()).rows()

    assert [row.label for row in rows] == ["F16", "Q4_K_M", "Q4_K_M-selective"]
    for row in rows:
        assert [score.set for score in row.tasks] == SETS
        assert row.tasks[0].n_tasks == N_TASKS


def test_a_score_has_its_wilson_interval_around_it() -> None:
    (score, _) = document(scored()).reference.tasks

    assert (score.n_correct, score.score.value) == (32, 80.0)
    assert (round(score.low, 2), round(score.high, 2)) == (65.24, 89.50)


def test_the_answers_travel_with_the_score() -> None:
    text = document_json(document(scored()))
    row = document_from_json(text).row("Q4_K_M")

    assert row is not None
    assert row.tasks[0].answers() == tuple(at >= 14 and at % 5 != 0 for at in range(N_TASKS))


def test_the_average_has_an_error_of_its_own() -> None:
    reference = document(scored()).reference

    assert reference.task_average is not None
    assert reference.task_average.value == 80.0
    single = reference.tasks[0].score.stderr
    assert single is not None
    assert reference.task_average.stderr == pytest.approx(single / 2**0.5)


def test_an_average_over_fewer_sets_is_none() -> None:
    run = scored(without=("tasks/Q4_K_M/demo-names",))
    row = document(run).row("Q4_K_M")

    assert row is not None
    assert len(row.tasks) == 1
    assert row.task_average is None
    assert [found.one for found in facts(run).averages] == ["Q4_K_M-selective"]


def test_what_scores_were_measured_under_is_told() -> None:
    first, second = facts(scored()).sets

    assert (first.name, first.title, first.form) == ("demo-passages", "Passages", "hellaswag")
    assert second.form == "winogrande"
    assert (first.n_ctx, first.n_tasks, first.n_read, first.seed) == (768, N_TASKS, 42, 1)
    assert first.ids == tuple(dataset_result("demo-passages")["ids"])
    assert (first.template, first.template_version) == ("continuation", 1)
    assert first.malformed[0].row == "row 7"
    assert first.sources
    assert first.citation


def test_every_file_is_compared_with_the_reference_on_the_same_tasks() -> None:
    found = facts(scored()).against_reference

    assert [(one.one, one.other, one.set) for one in found] == [
        (label, "F16", name) for label in ("Q4_K_M", "Q4_K_M-selective") for name in SETS
    ]
    worse = found[0]
    assert (worse.only_one, worse.only_other) == (0, 11)
    assert worse.difference.value == pytest.approx(-100 * 11 / 40)
    assert worse.low < worse.difference.value < worse.high < 0
    assert worse.p == pytest.approx(2 / 2**11)


def test_p_values_are_corrected_over_the_whole_list() -> None:
    found = facts(scored())

    for differences in (found.against_reference, found.between):
        assert tuple(one.p_holm for one in differences) == holm([one.p for one in differences])
    assert found.against_reference[0].p_holm == pytest.approx(4 * 2 / 2**11)


def test_only_what_is_more_than_chance_is_marked() -> None:
    found = facts(scored())

    assert found.marked("Q4_K_M", "demo-passages")
    assert not found.marked("Q4_K_M-selective", "demo-passages")  # one task of forty
    assert [one.differs for one in found.between] == [True, True]


def test_a_difference_of_averages_pairs_the_tasks_of_each_set() -> None:
    worse, close = facts(scored()).averages

    assert worse.difference.value == pytest.approx(-27.5)
    pair = facts(scored()).against_reference[0].difference.stderr
    assert pair is not None
    assert worse.difference.stderr == pytest.approx(pair / 2**0.5)
    assert worse.high < 0 < close.high


def test_without_scores_nothing_is_said_of_them() -> None:
    plain = document(sample_run())

    assert plain.tasks is None
    assert plain.reference.tasks == ()
    assert plain.reference.task_average is None


def test_a_run_that_stopped_before_a_score_is_still_told() -> None:
    without = tuple(f"tasks/{label}/{name}" for label in ("Q4_K_M", "reference") for name in SETS)
    found = facts(scored(without=without))

    assert found.against_reference == ()
    assert found.averages == ()
    assert len(found.sets) == 2


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        pytest.param("params", {"n_ctx": 1024, "form": "hellaswag"}, "n_ctx: 768 and 1024"),
        pytest.param("made_by_id", "another", "BuildId: tasks/Q4_K_M/demo-passages has another"),
    ],
    ids=["context", "build"],
)
def test_scores_measured_under_other_conditions_are_not_joined(
    field: str, value: object, message: str
) -> None:
    run = changed(scored(), "tasks/Q4_K_M/demo-passages", **{field: value})

    with pytest.raises(MixedConditionsError) as caught:
        document(run)
    assert any(line.startswith(message) for line in caught.value.evidence)


@pytest.mark.parametrize("figures", [{"order": "tool"}, {"n_parallel": 8}])
def test_scores_of_other_batches_are_not_joined(figures: dict[str, object]) -> None:
    with pytest.raises(MixedConditionsError, match="different conditions"):
        document(with_result(scored(), "tasks/Q4_K_M/demo-names", **figures))


def test_scores_of_fewer_tasks_are_not_joined() -> None:
    run = with_result(
        scored(), "tasks/Q4_K_M/demo-names", n_tasks=39, correct=packed([True] * 39), n_correct=39
    )

    with pytest.raises(MixedConditionsError) as caught:
        document(run)
    assert caught.value.evidence == ("39 answers, where 40 tasks were chosen",)


def test_scores_on_another_choice_of_tasks_are_not_joined() -> None:
    run = scored()
    inputs = dict(run.records["tasks/Q4_K_M/demo-names"].inputs)
    inputs["tasks"] = inputs["tasks"].model_copy(update={"digest": "f" * 64})

    with pytest.raises(MixedConditionsError, match="tasks/Q4_K_M/demo-names"):
        document(changed(run, "tasks/Q4_K_M/demo-names", inputs=inputs))
