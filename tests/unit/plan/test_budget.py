"""What a plan will take, as far as it can be said; what cannot is None, never 0."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llamacpp_pipeline.config.load import load
from llamacpp_pipeline.datasets.corpus import CORPORA
from llamacpp_pipeline.errors import InputError
from llamacpp_pipeline.plan.budget import (
    TOOL_BYTES,
    Budget,
    History,
    StepBudget,
    budget,
    refuse_what_cannot_fit,
)
from llamacpp_pipeline.plan.lanes import Lanes
from llamacpp_pipeline.plan.pace import SAME_MODEL, SAME_WORK, Timed
from llamacpp_pipeline.plan.sizes import NOMINAL_BPW, RECORD_BYTES, Known, chunks, tokens
from llamacpp_pipeline.plan.sources import HubCommit, ModelHints, Sources, hints_of
from llamacpp_pipeline.stages.inspect import InspectResult
from llamacpp_pipeline.stages.quantize import FTYPES
from tests.unit.plan.world import CALIBRATION, COMMIT, HERE, QWEN_9B, leaf, plan

GIB = 2**30
HERE_DIGEST = leaf("model").digest
WIKITEXT = next(iter(CORPORA))
FULL = Sources(
    model=leaf("model", size_bytes=18_000_000_000),
    evaluation=leaf("wiki.test.raw", size_bytes=1_290_547),
    hints=QWEN_9B,
)
CUT = {"corpus": {"demo": "evaluation"}, "n_ctx": 512}


def taken(sources: Sources = FULL, history: History | None = None) -> dict[str, StepBudget]:
    made = plan(sources, evaluation=CUT)
    found = budget(made, sources, history=history or History())
    return {step.key: step for step in found.steps}


class TestDisk:
    def test_the_reference_logits_of_wikitext_for_a_large_vocabulary_are_about_70_gb(self) -> None:
        size = taken()["reference"].output_bytes

        assert size is not None
        assert 70e9 < size < 80e9

    def test_so_many_chunks_as_asked_for_are_exact(self) -> None:
        made = plan(FULL, evaluation={**CUT, "n_chunks": 10})
        (step,) = (s for s in budget(made, FULL).steps if s.key == "reference")

        assert step.output_bytes == 20 + 4 * 512 * 10 + 2 * (248_320 + 4) * 10 * 255

    def test_a_short_text_has_fewer_chunks_than_asked_for(self) -> None:
        sources = replace(FULL, evaluation=leaf("short.txt", size_bytes=10_000))
        made = plan(sources, evaluation={**CUT, "n_chunks": 1000})
        (step,) = (s for s in budget(made, sources).steps if s.key == "reference")

        assert step.output_bytes is not None
        assert step.output_bytes < 1e9

    def test_the_unquantized_gguf_has_two_bytes_a_parameter(self) -> None:
        assert taken()["convert"].output_bytes == 18_000_000_000

    def test_a_variant_is_as_large_as_its_file_type_says(self) -> None:
        assert taken()["quantize/Q8_0"].output_bytes == pytest.approx(9.56e9, rel=0.01)
        assert taken()["quantize/Q4_K_M"].output_bytes == pytest.approx(5.50e9, rel=0.01)

    def test_an_imatrix_is_small_beside_the_model(self) -> None:
        made = plan(replace(FULL, calibration=(leaf("train.txt"),)), calibration=CALIBRATION)
        (step,) = (s for s in budget(made, FULL).steps if s.key == "imatrix")

        assert step.output_bytes is not None
        assert 1e6 < step.output_bytes < 1e8

    def test_every_file_type_has_a_nominal_size(self) -> None:
        assert set(NOMINAL_BPW) == set(FTYPES)

    def test_without_hints_nothing_is_invented(self) -> None:
        steps = taken(replace(FULL, hints=HERE.hints))

        for key in ("convert", "reference", "quantize/Q8_0"):
            assert steps[key].output_bytes is None, key
        assert steps["kld/Q8_0"].memory_bytes is None

    def test_the_unknown_is_named_and_not_counted(self) -> None:
        sources = replace(FULL, hints=replace(QWEN_9B, vocab_size=None))

        found = budget(plan(sources), sources)

        assert found.unknown_disk == ("reference",)
        known = (step.output_bytes for step in found.steps if step.key != "reference")
        assert found.peak_disk_bytes == sum(size for size in known if size is not None)

    def test_a_well_known_text_is_measured_before_it_is_fetched(self) -> None:
        hub = {"repo": "c/t", "file": "t.zip", "member": "t.raw", "sha256": WIKITEXT}
        sources = replace(FULL, evaluation=HubCommit(commit=COMMIT))
        made = plan(sources, evaluation={"corpus": {"hub": hub}, "n_ctx": 512})

        steps = {step.key: step for step in budget(made, sources).steps}

        assert steps["reference"].output_bytes == taken()["reference"].output_bytes
        assert steps["fetch-evaluation"].output_bytes is None

    def test_a_download_is_as_large_as_the_hub_says_else_as_the_tensors(self) -> None:
        on_hub = replace(FULL, model=HubCommit(commit=COMMIT))
        said = replace(FULL, model=HubCommit(commit=COMMIT, size_bytes=5))
        hub = {"repo": "a/b"}

        assert budget(plan(on_hub, model=hub), on_hub).steps[0].output_bytes == 18_000_000_000
        assert budget(plan(said, model=hub), said).steps[0].output_bytes == 5

    def test_steps_already_done_take_nothing_more(self) -> None:
        everything = {step.key: 7 for step in plan(FULL).steps}

        found = budget(plan(FULL), FULL, history=History(finished=everything))

        assert (found.peak_disk_bytes, found.todo, found.elapsed) == (0, (), 0)

    def test_what_a_finished_step_left_is_what_the_next_one_reads(self) -> None:
        history = History(finished={"convert": 123})

        assert taken(history=history)["bench/reference"].memory_bytes == 123 + TOOL_BYTES


class TestMemoryAndTime:
    def test_a_tool_needs_the_model_and_a_float_for_every_logit(self) -> None:
        memory = taken()["kld/Q4_K_M"].memory_bytes
        size = taken()["quantize/Q4_K_M"].output_bytes

        assert size is not None
        assert memory == size + (2048 + 512) * 248_320 * 4 + TOOL_BYTES

    def test_of_the_converter_nothing_is_said(self) -> None:
        assert taken()["convert"].memory_bytes is None

    def test_without_experience_time_is_unknown(self) -> None:
        found = budget(plan(FULL), FULL)

        assert {step.seconds for step in found.steps} == {None}
        assert found.elapsed is None

    def test_the_time_of_one_variant_tells_that_of_another(self) -> None:
        made = plan(FULL)
        timed = Timed(stage="kld", seconds=850.0, family=HERE_DIGEST, tokens=1000, n_threads=2)
        found = budget(made, FULL, history=History(timed=(timed,), n_threads=2))
        steps = {step.key: step for step in found.steps}
        known = Known(plan=made, sources=FULL, finished={})
        tokens = 256 * (chunks(made.step("kld/Q8_0"), known) or 0)

        assert steps["kld/Q8_0"].seconds == pytest.approx(0.85 * tokens)
        assert steps["kld/Q4_K_M"].seconds == steps["kld/Q8_0"].seconds
        assert steps["kld/Q8_0"].basis == SAME_MODEL
        assert found.bases == {SAME_WORK: ("reference",), SAME_MODEL: ("kld",)}
        assert steps["bench/Q4_K_M"].seconds is None

    def test_the_whole_time_is_that_of_what_is_to_do_as_it_runs_at_once(self) -> None:
        made = plan(FULL)
        timed = [
            Timed(
                stage=stage.name,
                seconds=10.0,
                family=HERE_DIGEST,
                tokens=10 if stage.name in ("kld", "reference") else None,
                model_bytes=10,
            )
            for stage in {step.stage.name: step.stage for step in made.steps}.values()
            if stage.name != "bench"
        ]
        timed += [
            Timed(stage="bench", seconds=10.0, family=HERE_DIGEST, model_bytes=10,
                  params=made.step("bench/Q8_0").params.model_dump(mode="json"))
        ]  # fmt: skip
        history = History(timed=timed, finished=dict.fromkeys(("convert", "reference"), 7))
        alone = budget(made, FULL, history=history)
        beside = budget(made, FULL, history=history, lanes=Lanes(devices=("0", "1")))

        assert alone.elapsed == pytest.approx(sum(step.seconds or 0 for step in alone.todo))
        klds = [step.seconds or 0 for step in alone.todo if step.stage == "kld"]
        assert alone.elapsed is not None
        assert beside.elapsed is not None
        assert alone.elapsed - beside.elapsed >= min(klds)

    def test_devices_need_their_memory_at_once(self) -> None:
        two = budget(plan(FULL), FULL, lanes=Lanes(devices=("0", "1")))
        klds = sorted(
            (step.memory_bytes or 0 for step in two.steps if step.stage == "kld"), reverse=True
        )
        assert two.peak_memory_bytes == klds[0] + klds[1]

    def test_the_peak_of_memory_is_that_of_one_step(self) -> None:
        found = budget(plan(FULL), FULL)

        assert found.peak_memory_bytes == taken()["reference"].memory_bytes
        assert Budget(steps=()).peak_memory_bytes is None


class TestRefusal:
    def refused(self, free_bytes: int, sources: Sources = FULL) -> InputError:
        made = plan(sources, evaluation=CUT)
        with pytest.raises(InputError) as caught:
            refuse_what_cannot_fit(
                budget(made, sources), plan=made, sources=sources, free_bytes=free_bytes
            )
        return caught.value

    def test_what_fits_passes(self) -> None:
        made = plan(FULL)

        refuse_what_cannot_fit(budget(made, FULL), plan=made, sources=FULL, free_bytes=1000 * GIB)

    def test_it_says_how_much_what_for_and_how_many_chunks_would_fit(self) -> None:
        error = self.refused(60 * GIB)

        assert error.message.startswith("this run needs about ")
        assert error.message.endswith("60.0 GiB are free")
        assert error.evidence[0].startswith("reference: about ")
        assert error.hint is not None
        assert "--set evaluation.n_chunks=" in error.hint

    def test_the_chunks_it_names_do_fit_and_one_more_would_not(self) -> None:
        hint = self.refused(60 * GIB).hint or ""
        n_chunks = int(hint.partition("n_chunks=")[2].partition(";")[0])

        for more, fits in ((0, True), (1, False)):
            made = plan(FULL, evaluation={**CUT, "n_chunks": n_chunks + more})
            assert (budget(made, FULL).peak_disk_bytes <= 60 * GIB) is fits

    def test_where_fewer_chunks_would_not_help_it_says_to_go_elsewhere(self) -> None:
        hint = self.refused(1 * GIB).hint or ""

        assert "n_chunks" not in hint
        assert "--store DIR" in hint


def test_tokens_are_rather_too_many_than_too_few() -> None:
    assert tokens(1_290_547, 248_320) >= 297_000  # what a vocabulary of that size makes of it
    assert tokens(1000, None) == 239
    assert tokens(1000, 2) == 1000


def test_hints_come_from_an_inspected_model() -> None:
    facts = InspectResult(
        architecture="Qwen3_5ForCausalLM",
        model_type="qwen3_5",
        n_parameters=20,
        n_tensors=3,
        tensor_bytes=40,
        largest_tensor_bytes=30,
        dtypes={"BF16": 20},
        vocab_size=10,
        n_ctx_train=None,
        n_layers=None,
        has_mtp=False,
        says_mtp=False,
        has_vision=False,
        license=None,
        tags=(),
        languages=(),
        pipeline_tag=None,
        chat_template=False,
    )

    assert hints_of(facts) == ModelHints(vocab_size=10, n_parameters=20, tensor_bytes=40)


def test_the_well_known_text_is_the_one_it_is_known_as(shared_data: Path) -> None:
    file = shared_data / "wikitext2.wiki.test.raw"

    assert file.stat().st_size == CORPORA[WIKITEXT].size_bytes
    assert f"{WIKITEXT}  {file.name}" in (shared_data / "SHA256SUMS").read_text(encoding="utf-8")


def test_the_defaults_measure_on_that_text() -> None:
    hub = load(model="a/b").config.evaluation.corpus.hub

    assert hub is not None
    assert hub.sha256 == WIKITEXT


def test_what_uses_the_candidate_kept_reads_a_file_of_its_size() -> None:
    choice = {"ftype": "Q4_K_M", "candidates": ["Q4_K_S"]}
    made = plan(FULL, variants=[choice])
    steps = {step.key: step for step in budget(made, FULL).steps}
    size = steps["quantize/Q4_K_M~base"].output_bytes

    assert size is not None
    assert steps["select/Q4_K_M"].output_bytes == RECORD_BYTES  # a link
    assert steps["bench/Q4_K_M"].memory_bytes == size + TOOL_BYTES


def test_where_some_times_are_unknown_the_others_are_told() -> None:
    made = plan(FULL)
    timed = Timed(stage="kld", seconds=850.0, family=HERE_DIGEST, tokens=1000, n_threads=2)
    found = budget(made, FULL, history=History(timed=(timed,), n_threads=2))

    assert found.elapsed is None
    assert found.least == sum(step.seconds or 0 for step in found.steps)
    assert "bench" in found.unknown_time
    assert "kld" not in found.unknown_time
