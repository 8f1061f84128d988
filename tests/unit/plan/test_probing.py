"""How much probing there is to do, and what would make it less."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llamacpp_pipeline.plan.budget import History, advised, budget
from llamacpp_pipeline.plan.pace import SAME_WORK, Timed
from llamacpp_pipeline.plan.probing import advice, passes, refined_tokens, within_budget
from llamacpp_pipeline.plan.sources import ModelHints
from llamacpp_pipeline.plan.step import Plan
from llamacpp_pipeline.stages.probe import ProbeParams
from llamacpp_pipeline.stages.quantize_target import TargetParams
from llamacpp_pipeline.stages.refine import RefineParams
from tests.unit.plan.world import CALIBRATED, CALIBRATION, leaf, plan

HYBRID = ModelHints(n_layers=8, matrices={"embed": 1, "ffn_up": 8, "attn_q": 2, "ssm_out": 6})
PARAMS = ProbeParams(types=("iq3_s", "q5_K"), n_chunks=32)


def test_every_matrix_is_measured_at_every_type_besides_reference_and_floor() -> None:
    assert passes(PARAMS, HYBRID) == 2 + 2 * 17
    assert passes(PARAMS, replace(HYBRID, matrices={})) == 2 + 2 * (8 * 8 + 2)
    assert passes(PARAMS, ModelHints()) is None


def test_a_refinement_computes_whole_mixes_and_the_steps_that_are_close() -> None:
    asked = RefineParams(target=TargetParams(bpw=4.5), n_ctx=64, n_chunks=4, validation_chunks=8)
    n_close = round(0.7 * 17)
    assert refined_tokens(asked, HYBRID) == 64 * (6 * 12 + (2 + n_close) * 8)
    assert refined_tokens(asked, ModelHints()) is None
    whole_text = asked.model_copy(update={"n_chunks": None})
    assert refined_tokens(whole_text, HYBRID) is None


def test_bands_measure_at_most_so_many_of_each_role() -> None:
    banded = PARAMS.model_copy(update={"bands": 4})
    assert passes(banded, HYBRID) == 2 + 2 * (1 + 4 + 2 + 4)


def test_minutes_end_a_probe_and_never_make_it_longer() -> None:
    short = PARAMS.model_copy(update={"minutes": 2})
    each = 3600 / 36
    assert within_budget(3600.0, PARAMS, HYBRID) == 3600
    assert within_budget(3600.0, short, HYBRID) == pytest.approx(120 + 3 * each)
    assert within_budget(60.0, short, HYBRID) == 60
    assert within_budget(3600.0, short, ModelHints()) == 3600


def lines(
    params: ProbeParams = PARAMS, *, seconds: float = 720.0, others: float = 240.0
) -> list[str]:
    found = advice(params, HYBRID, seconds=seconds, others=others, n_chunks=params.n_chunks)
    return list(found)


def test_what_would_shorten_a_long_probe_is_named_with_what_it_brings() -> None:
    minutes, bands, chunks = lines()
    assert minutes.startswith("`sensitivity.minutes: 2` ends it then, after about 6 of 34 meas")
    assert bands == "`sensitivity.bands: 4` measures tensors together: about 8m00s"
    assert chunks.startswith("`sensitivity.n_chunks: 16` measures with larger errors (by 1.4)")
    assert chunks.endswith("about 6m00s")


def test_no_advice_without_need_or_effect() -> None:
    assert lines(seconds=20.0, others=1.0) == []  # short
    assert lines(seconds=100.0, others=300.0) == []  # no long part of the whole
    few = PARAMS.model_copy(update={"bands": 4, "minutes": 1.0, "n_chunks": 8})
    assert lines(few) == []
    assert len(lines(seconds=50.0, others=10.0)) == 2  # a minute would not end it
    assert list(advice(PARAMS, ModelHints(), seconds=9e9, others=1, n_chunks=32)) == []


def test_a_plan_predicts_a_probe_from_the_models_own_texts_and_advises() -> None:
    hints = replace(HYBRID, vocab_size=1000, n_parameters=10**6, tensor_bytes=2 * 10**6)
    text = leaf("probe.txt", size_bytes=10**6)
    sources = replace(CALIBRATED, sensitivity=text, hints=hints)
    asked: dict[str, object] = {
        "corpus": {"demo": "probe"},
        "n_ctx": 512,
        "n_chunks": 16,
        "types": ["iq3_s"],
    }
    asked["refine"] = None

    def planned(**more: float) -> Plan:
        said = {**asked, **more}
        variants = [{"bpw": 4.5}]
        return plan(sources, calibration=CALIBRATION, sensitivity=said, variants=variants)

    made = planned()
    done = Timed(stage="kld", seconds=10.0, family=leaf("model").digest, tokens=512 * 20)
    history = History(timed=[done], finished={"convert": 1})

    found = budget(made, sources, history=history)
    probe = next(step for step in found.steps if step.key == "probe")

    assert probe.basis == SAME_WORK
    assert probe.seconds == pytest.approx(10.0 * (2 + 17) * 16 / 20)
    assert "`sensitivity.bands: 4`" in "".join(advised(made, found, sources))
    finished = History(timed=[done], finished={step.key: 1 for step in made.steps})
    assert advised(made, budget(made, sources, history=finished), sources) == ()
    steps = budget(planned(minutes=0.5), sources, history=history).steps
    (probe,) = (step for step in steps if step.key == "probe")
    assert probe.seconds == pytest.approx(30 + 3 * 8.0)
