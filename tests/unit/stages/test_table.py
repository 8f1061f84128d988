from __future__ import annotations

from llamacpp_pipeline.stages.table import STAGES


def test_every_stage_is_listed_by_its_name() -> None:
    assert {name: stage.name for name, stage in STAGES.items()} == {name: name for name in STAGES}
    assert set(STAGES) == {
        *("fetch", "inspect", "weights", "convert", "reference", "perplexity"),
        *("imatrix", "quantize", "kld", "bench", "quantize-target", "memory"),
        *("check-texts", "merge-imatrix", "check-imatrix", "reference-file", "select"),
        *("dataset", "fetch-url", "text", "tasks"),
        *("check-probe", "probe", "curves", "sensitivity", "refine", "check-selection"),
    }


def test_no_output_is_named_like_an_input() -> None:
    for stage in STAGES.values():
        assert not set(stage.outputs) & (stage.inputs | stage.optional_inputs)


def test_every_stage_counts_something_or_is_over_at_once() -> None:
    assert {name for name, stage in STAGES.items() if stage.progress is None} == {
        *("inspect", "check-texts", "merge-imatrix", "check-imatrix", "reference-file", "select"),
        *("dataset", "fetch-url", "text", "memory"),
        *("check-probe", "sensitivity", "check-selection"),
    }
