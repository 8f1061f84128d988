"""A choice made on a text of its own, in results, card and on the terminal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llamacpp_pipeline.config.schema import PipelineConfig
from llamacpp_pipeline.errors import MixedConditionsError
from llamacpp_pipeline.plan.step import Leaf, OutputRef, Plan, Step
from llamacpp_pipeline.report.card import render_card
from llamacpp_pipeline.report.choices import choice_lines
from llamacpp_pipeline.report.terminal import render_text
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.files import file_names
from llamacpp_pipeline.results.record import RecordedInput
from llamacpp_pipeline.results.run import RunRecords
from llamacpp_pipeline.results.select import with_kept
from llamacpp_pipeline.stages import kld, perplexity
from tests.unit.results.sample import changed, digest, kld_result, with_result
from tests.unit.results.test_select import LABEL, NOTHING, chosen_run, copy, document_of

SCALES = {"base": 0.8, "Q4_K_M": 0.5, "plain": 2.0}
TEXT = Leaf(
    digest=digest("choose"), path=Path("texts/choose.txt"), label="choose.txt", size_bytes=9
)
N_CHUNKS = 17  # the evaluation text has 40


def apart_run() -> RunRecords:
    """The run of `chosen_run` where the choice had a text of its own: afterwards KLD was 0.9."""
    run = chosen_run(SCALES)
    steps = {step.key: step for step in run.plan.steps}
    records = {k: r for k, r in run.records.items() if k != f"quantize/{LABEL}"}
    judged = records.pop(f"kld/{LABEL}")
    final = OutputRef(step=f"select/{LABEL}", output="gguf")
    steps["reference-selection"] = Step(
        key="reference-selection", stage=perplexity.REFERENCE, params=NOTHING,
        inputs={"corpus": TEXT},
    )  # fmt: skip
    reference = records["reference"]
    corpus = RecordedInput(kind="leaf", label=TEXT.label, digest=TEXT.digest)
    records["reference-selection"] = copy(
        reference, "reference-selection", inputs={"corpus": corpus},
        result={**reference.result, "n_ctx": 128, "n_chunks": N_CHUNKS},
    )  # fmt: skip
    for name in SCALES:
        old, new = f"kld/{LABEL}~{name}", f"kld-selection/{LABEL}~{name}"
        steps[new] = replace(steps.pop(old), key=new)
        record = records.pop(old)
        records[new] = copy(
            record, new, result={**record.result, "n_ctx": 128, "n_chunks": N_CHUNKS}
        )
    steps[f"kld/{LABEL}"] = Step(
        key=f"kld/{LABEL}", stage=kld.STAGE, params=NOTHING, inputs={"model": final}
    )
    made = RecordedInput(kind="step", label="select:gguf", digest=digest("select"))
    records[f"kld/{LABEL}"] = copy(
        judged, f"kld/{LABEL}", inputs={"model": made}, result=kld_result(0.9)
    )
    selection = {"corpus": {"path": "choose.txt"}, "n_ctx": 128}
    config = PipelineConfig.model_validate({**run.config.model_dump(), "selection": selection})
    plan = Plan(steps=tuple(steps.values()))
    return with_kept(replace(run, plan=plan, records=records, config=config))


def test_the_row_of_the_kept_file_has_the_figures_on_the_evaluation_text() -> None:
    document = document_of(apart_run())
    row, (selection,) = document.row(LABEL), document.selections

    assert row is not None
    assert row.quality is not None
    assert row.quality.mean_kld.value == 0.036272 * 0.9
    assert row.quality.n_chunks == document.conditions.n_chunks == 40
    assert row.sha256 == digest(f"{LABEL}~Q4_K_M")
    figures = {one.name: one.mean_kld.value for one in selection.candidates}
    assert figures == {name: 0.036272 * scale for name, scale in SCALES.items()}


def test_the_results_say_what_was_chosen_on() -> None:
    (own,) = document_of(apart_run()).selections
    (same,) = document_of(chosen_run(SCALES)).selections

    assert own.chosen_on is not None
    assert own.chosen_on.own_text
    assert (own.chosen_on.corpus.label, own.chosen_on.corpus.sha256) == ("choose.txt", TEXT.digest)
    assert (own.chosen_on.n_ctx, own.chosen_on.n_chunks) == (128, N_CHUNKS)
    assert same.chosen_on is not None
    assert not same.chosen_on.own_text
    assert same.chosen_on.corpus == document_of(chosen_run(SCALES)).conditions.corpus
    assert (same.chosen_on.n_ctx, same.chosen_on.n_chunks) == (256, 40)


def test_the_card_and_the_terminal_say_it() -> None:
    document = document_of(apart_run())
    line = choice_lines(document)[1]

    assert line == (
        f"Chosen on choose.txt (n_ctx 128, {N_CHUNKS} chunks, sha256 {TEXT.digest[:12]}),"
        " not on the evaluation text"
    )
    assert line in render_text(document)
    card = render_card(document).replace("\\", "")
    assert f"- {line}" in card
    assert "measured after the choice, on another text." in card
    assert "so they flatter it a little" not in card


def test_without_a_text_of_its_own_the_card_says_that_the_figures_flatter() -> None:
    card = render_card(document_of(chosen_run(SCALES))).replace("\\", "")

    assert "- Chosen on the evaluation text\n" in card
    assert "so they flatter it a little." in card


def test_task_scores_that_settled_a_choice_are_said_to_flatter() -> None:
    document = document_of(apart_run())
    (selection,) = document.selections
    settled = selection.model_copy(update={"reason": "tasks"})
    told = ResultsDocument.model_validate(
        document.model_copy(update={"selections": (settled,)}).model_dump()
    )

    assert "its task scores, which settled it, flatter it a little." in render_card(told)


def test_a_document_of_an_earlier_version_says_nothing_of_it() -> None:
    document = document_of(chosen_run(SCALES))
    (selection,) = document.selections
    older = selection.model_copy(update={"chosen_on": None})

    told = document.model_copy(update={"selections": (older,)})
    assert not [line for line in choice_lines(told) if line.startswith("Chosen on")]
    assert "so they flatter it a little." in render_card(told)


def test_figures_of_a_choice_of_another_cut_than_its_reference_are_refused() -> None:
    run = with_result(apart_run(), f"kld-selection/{LABEL}~base", n_chunks=40)

    with pytest.raises(MixedConditionsError, match="figures of kld-selection") as caught:
        document_of(run)
    assert f"the reference {N_CHUNKS}" in str(caught.value.evidence)


def test_figures_of_a_choice_by_other_binaries_are_refused() -> None:
    run = changed(apart_run(), "reference-selection", made_by_id="other")

    with pytest.raises(MixedConditionsError, match="figures of reference-selection"):
        document_of(run)


def test_a_kept_file_that_was_not_yet_judged_has_no_figures() -> None:
    run = apart_run()
    records = {key: record for key, record in run.records.items() if key != f"kld/{LABEL}"}
    row = document_of(replace(run, records=records)).row(LABEL)

    assert row is not None
    assert row.quality is None


def test_the_logits_of_the_two_texts_have_two_names() -> None:
    names = file_names(apart_run())

    assert names["reference", "logits"] != names["reference-selection", "logits"]
