"""The choice between candidates in results, files, card and on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llamacpp_pipeline.plan.step import OutputRef, Plan, Step
from llamacpp_pipeline.report.card import render_card
from llamacpp_pipeline.report.choices import choice_lines, kept_line
from llamacpp_pipeline.report.terminal import render_text
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.files import file_names, published_files
from llamacpp_pipeline.results.record import StepRecord
from llamacpp_pipeline.results.run import RunRecords
from llamacpp_pipeline.results.select import with_kept
from llamacpp_pipeline.stages import select
from llamacpp_pipeline.stages.base import Frozen
from llamacpp_pipeline.stages.kld import KldResult
from llamacpp_pipeline.stages.selection import Candidate, decide
from llamacpp_pipeline.units import Estimate
from tests.unit.results.sample import (
    CREATED,
    NOBODY,
    SELECTIVE,
    digest,
    kld_result,
    sample_run,
)

NOTHING = Frozen()
LABEL = "Q4_K_M-selective"
VARIANTS = [
    {"ftype": "Q4_K_M"},
    {
        "ftype": "Q4_K_M",
        "name": LABEL,
        "tensor_types": {SELECTIVE: "q8_0"},
        "candidates": ["Q4_K_M", {"name": "plain", "pure": True}],
    },
]


def chosen_run(
    scales: Mapping[str, float], *, sizes: Mapping[str, int] | None = None
) -> RunRecords:
    """A finished run in which one variant had candidates of these KLDs (in 0.036272 nats)."""
    run = sample_run(config={"variants": VARIANTS})
    steps = {step.key: step for step in run.plan.steps}
    records = dict(run.records)
    made, measured = (records.pop(f"{kind}/{LABEL}") for kind in ("quantize", "kld"))
    order = [key for key in steps if not key.endswith(f"/{LABEL}")]
    found = []
    for name, scale in scales.items():
        label = f"{LABEL}~{name}"
        size = (sizes or {}).get(name, 5000)
        kld = kld_result(scale)
        file = made.outputs[0].model_copy(update={"sha256": digest(label), "size_bytes": size})
        records[f"quantize/{label}"] = copy(
            made, label, result={**made.result, "file_bytes": size}, outputs=(file,)
        )
        records[f"kld/{label}"] = copy(measured, f"kld {label}", result=kld, inputs={})
        steps[f"quantize/{label}"] = replace(steps[f"quantize/{LABEL}"], key=f"quantize/{label}")
        steps[f"kld/{label}"] = Step(
            key=f"kld/{label}", stage=steps[f"kld/{LABEL}"].stage, params=NOTHING, inputs={}
        )
        order += [f"quantize/{label}", f"kld/{label}"]
        found.append(
            Candidate(name=name, file_bytes=size, bpw=4.9, quality=KldResult.model_validate(kld))
        )
    decision = decide(found, larger_by=0.005)
    kept = records[f"quantize/{LABEL}~{decision.kept}"]
    records[f"select/{LABEL}"] = copy(
        kept, "select", stage="select", made_by="pipeline", inputs={},
        result=decision.model_dump(mode="json"),
    )  # fmt: skip
    steps[f"select/{LABEL}"] = Step(
        key=f"select/{LABEL}", stage=select.STAGE, params=NOTHING, inputs={}
    )
    final = OutputRef(step=f"select/{LABEL}", output="gguf")
    steps[f"bench/{LABEL}"] = replace(steps[f"bench/{LABEL}"], inputs={"model": final})
    bench = records[f"bench/{LABEL}"]
    recorded = bench.inputs["model"].model_copy(update={"digest": digest("select")})
    records[f"bench/{LABEL}"] = copy(bench, f"bench/{LABEL}", inputs={"model": recorded})
    order += [f"select/{LABEL}", f"bench/{LABEL}"]
    plan = Plan(steps=tuple(steps[key] for key in order))
    return with_kept(replace(run, plan=plan, records=records))


def copy(record: StepRecord, name: str, **fields: Any) -> StepRecord:  # noqa: ANN401 - any field
    return record.model_copy(update={"fingerprint": digest(name), **fields})


def document_of(run: RunRecords) -> ResultsDocument:
    return results_document(run, created=CREATED, redactor=NOBODY)


def test_the_row_of_the_variant_has_the_figures_and_the_file_of_the_candidate_kept() -> None:
    run = chosen_run({"base": 0.8, "Q4_K_M": 0.5, "plain": 2.0})
    row = document_of(run).row(LABEL)

    assert row is not None
    assert row.quality is not None
    assert row.quality.mean_kld.value == 0.036272 * 0.5
    assert row.sha256 == digest(f"{LABEL}~Q4_K_M")
    assert row.file == f"Tiny-{LABEL}.gguf"
    assert row.published
    assert row.speed != ()


def test_what_is_published_is_what_the_step_select_left() -> None:
    run = chosen_run({"base": 0.8, "Q4_K_M": 0.5, "plain": 2.0})
    (file,) = (file for file in published_files(run) if file.name == f"Tiny-{LABEL}.gguf")

    assert (file.step, file.sha256) == (f"select/{LABEL}", digest(f"{LABEL}~Q4_K_M"))
    names = file_names(run)
    assert names[f"quantize/{LABEL}~Q4_K_M", "gguf"] == f"Tiny-{LABEL}.gguf"
    assert names[f"quantize/{LABEL}~base", "gguf"] == f"Tiny-{LABEL}~base.gguf"


def test_the_losers_figures_are_in_the_results_with_what_told_them_apart() -> None:
    document = document_of(chosen_run({"base": 0.8, "Q4_K_M": 0.5, "plain": 2.0}))
    (selection,) = document.selections

    assert (selection.label, selection.kept, selection.reason) == (LABEL, "Q4_K_M", "kld")
    base, kept, plain = selection.candidates
    assert (base.name, base.step) == ("base", f"quantize/{LABEL}~base")
    assert kept.difference is None
    assert plain.difference is not None
    assert round(plain.difference.value, 6) == round(0.036272 * 1.5, 6)


def test_the_choice_is_told_in_one_line_on_the_terminal_and_on_the_card() -> None:
    document = document_of(chosen_run({"base": 0.8, "Q4_K_M": 0.5, "plain": 2.0}))
    line = choice_lines(document)[0]

    assert line == (
        "Q4_K_M-selective: kept Q4_K_M of 3 candidates, by its mean KLD;"
        " base has more mean KLD, by 0.010882 ± 0.000218 (errors of both added),"
        " plain has more mean KLD, by 0.054408 ± 0.000218 (errors of both added)"
    )
    assert line in render_text(document)
    card = render_card(document).replace("\\", "")
    assert f"- {line}" in card
    assert "chosen by the same figures that it shows" in card


def test_a_tie_is_said_to_be_one() -> None:
    document = document_of(chosen_run({"base": 0.8, "Q4_K_M": 0.8, "plain": 2.0}))

    assert document.selections[0].reason == "tie"
    assert "a tie in mean KLD" in choice_lines(document)[0]
    assert "Q4_K_M ties in mean KLD" in choice_lines(document)[0]


def test_what_was_too_large_is_said_to_have_been() -> None:
    run = chosen_run({"base": 0.8, "Q4_K_M": 0.5, "plain": 2.0}, sizes={"Q4_K_M": 9000})
    document = document_of(run)

    assert document.selections[0].kept == "base"
    assert "Q4_K_M was too large" in choice_lines(document)[0]


def test_a_variant_whose_choice_was_not_made_is_not_there() -> None:
    run = chosen_run({"base": 0.8, "Q4_K_M": 0.5, "plain": 2.0})
    records = {
        key: record
        for key, record in run.records.items()
        if key not in (f"select/{LABEL}", f"quantize/{LABEL}", f"kld/{LABEL}", f"bench/{LABEL}")
    }
    document = document_of(with_kept(replace(run, records=records)))

    assert document.row(LABEL) is None
    assert document.selections == ()
    assert f"select/{LABEL}" in document.incomplete


def test_a_card_without_choices_says_nothing_of_them() -> None:
    document = document_of(sample_run())
    card = render_card(document)

    assert "candidates" not in card


def test_a_tie_in_tasks_too_is_said_to_be_one() -> None:
    document = document_of(chosen_run({"base": 0.8, "Q4_K_M": 0.8}))
    (selection,) = document.selections
    scored = tuple(
        one.model_copy(update={"task_average": Estimate(value=50.0, stderr=1.0)})
        for one in selection.candidates
    )
    told = selection.model_copy(update={"candidates": scored})

    assert "a tie in mean KLD, \N{GREEK SMALL LETTER RHO}PPL and tasks: it" in kept_line(told)
