"""Task scores in the Hub's form for benchmarks."""

from __future__ import annotations

from pathlib import Path

import yaml
from huggingface_hub import parse_eval_result_entries

from llamacpp_pipeline.report.eval_results import evaluation_files, write_evaluations
from llamacpp_pipeline.report.hub_metadata import evaluations
from tests.unit.report.scored import scored_sample

FROM = f"org/passages@{'b' * 40}"


def test_a_set_of_the_hub_has_an_entry_for_each_of_our_files() -> None:
    document = scored_sample(datasets=(FROM,))
    (name, text), *others = evaluation_files(document).items()

    entries = parse_eval_result_entries(yaml.safe_load(text))
    rows = (document.reference, *document.variants)
    assert name == "demo-passages.yaml"
    assert others == []
    assert [entry.value for entry in entries] == [row.tasks[0].score.value for row in rows]
    assert {(e.dataset_id, e.dataset_revision, e.task_id, e.date) for e in entries} == {
        ("org/passages", "b" * 40, "demo-passages", document.created)
    }
    for entry, row in zip(entries, rows, strict=True):
        assert (entry.notes or "").startswith(f"{row.file}: percent right of ")


def test_a_set_from_elsewhere_or_from_several_has_none() -> None:
    assert evaluation_files(scored_sample()) == {}
    assert evaluation_files(scored_sample(datasets=(FROM, "org/other@c"))) == {}
    assert evaluation_files(scored_sample(datasets=("../x y@c",))) == {}


def test_files_of_sets_that_are_scored_no_more_go(tmp_path: Path) -> None:
    write_evaluations(scored_sample(datasets=(FROM,)), tmp_path)
    folder = tmp_path / ".eval_results"
    assert [path.name for path in folder.iterdir()] == ["demo-passages.yaml"]

    write_evaluations(scored_sample(), tmp_path)

    assert list(folder.iterdir()) == []


def test_the_model_index_has_the_scores_too() -> None:
    found = [
        one for one in evaluations(scored_sample(datasets=(FROM,))) if one.metric_type == "accuracy"
    ]

    assert [(one.dataset_type, one.dataset_revision) for one in found] == [
        *[("org/passages", "b" * 40)] * 3,
        *[("demo-names", None)] * 3,
    ]
    assert found[1].metric_name == "accuracy of Q4_K_M, percent"
    assert found[1].metric_value == 52.5
