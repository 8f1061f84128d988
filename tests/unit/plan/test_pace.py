"""How long a step will take, and what that is told by."""

from __future__ import annotations

from typing import Any

import pytest

from llamacpp_pipeline.plan.pace import (
    BENCH,
    OTHER_MODELS,
    SAME_MODEL,
    SAME_WORK,
    Job,
    Timed,
    family_of,
    guess,
)
from tests.unit.plan.world import CALIBRATED, CALIBRATION, leaf, plan


def timed(**said: Any) -> Timed:  # noqa: ANN401 - any field
    known = {"stage": "kld", "seconds": 10.0, "family": "ours", "tokens": 100, "model_bytes": 50}
    return Timed(**{**known, "n_threads": 2, **said})


def job(**said: Any) -> Job:  # noqa: ANN401 - any field
    known = {"stage": "kld", "family": "ours", "tokens": 200, "model_bytes": 80}
    rest: dict[str, Any] = {"output_bytes": 7, "text": None, "params": {}, "n_threads": 2}
    return Job(**{**known, **rest, **said})


def seconds(work: Job, *done: Timed) -> tuple[Any, str]:
    found = guess(work, done)
    assert found is not None
    return round(found.seconds, 6), found.basis


def test_nothing_is_made_up() -> None:
    assert guess(job(), ()) is None
    assert guess(job(), [timed(stage="quantize")]) is None
    assert guess(job(), [timed(stage="reference", family="theirs")]) is None
    assert guess(job(tokens=None, model_bytes=None), [timed(family="theirs")]) is None


def test_tokens_per_second_of_this_model_whatever_its_file_is() -> None:
    assert seconds(job(), timed(), timed(seconds=30.0, model_bytes=5)) == (40.0, SAME_MODEL)


def test_without_them_the_bench_of_this_model() -> None:
    bench = timed(stage="bench", tokens=None, prompt_speed=50.0)
    assert seconds(job(), bench) == (4.0, BENCH)
    assert seconds(job(), bench, timed()) == (20.0, SAME_MODEL)
    assert guess(job(family="theirs"), [bench]) is None


def test_a_probe_is_told_by_what_computes_texts_with_the_same_file() -> None:
    reference = timed(stage="reference", model_bytes=80, seconds=5.0)
    imatrix = timed(stage="imatrix", model_bytes=80, seconds=15.0)
    quantized = timed(stage="kld", model_bytes=20, seconds=99.0)
    bench = timed(stage="bench", tokens=None, prompt_speed=1.0)
    probe = job(stage="probe", tokens=1000)
    assert seconds(probe, reference, imatrix, quantized, bench) == (100.0, SAME_WORK)
    assert seconds(probe, quantized) == (990.0, SAME_WORK)
    assert seconds(probe, reference, timed(stage="probe", seconds=1.0)) == (10.0, SAME_MODEL)
    assert guess(job(stage="probe", family="theirs"), [reference]) is None
    assert guess(job(stage="convert", tokens=None), [reference]) is None


def test_curves_are_told_by_how_many_errors_were_measured() -> None:
    search = timed(stage="quantize-target", tokens=None, measured=10, seconds=2.0)
    curves = job(stage="curves", tokens=None, measured=30)
    assert seconds(curves, search) == (6.0, SAME_WORK)
    own = timed(stage="curves", tokens=None, measured=60, seconds=3.0)
    assert seconds(curves, search, own) == (1.5, SAME_MODEL)
    other = timed(stage="curves", tokens=None, measured=60, seconds=3.0, family="theirs")
    assert seconds(curves, other) == (1.5, OTHER_MODELS)  # rows are sampled, whatever their size
    file = job(stage="quantize-target", tokens=None)
    assert seconds(file, search) == (3.2, SAME_MODEL)  # a file's time goes by its bytes


def test_without_that_other_models_by_their_size() -> None:
    assert seconds(job(), timed(family="theirs")) == (pytest.approx(32.0), OTHER_MODELS)
    assert seconds(job(family=None), timed(family=None)) == (pytest.approx(32.0), OTHER_MODELS)


def test_a_share_of_the_threads_takes_as_much_longer() -> None:
    assert seconds(job(n_threads=1), timed()) == (40.0, SAME_MODEL)
    bench = timed(stage="bench", tokens=None, prompt_speed=50.0)
    assert seconds(job(n_threads=1), bench) == (8.0, BENCH)


def test_what_computes_no_text_goes_by_the_bytes_it_reads() -> None:
    done = timed(stage="quantize", tokens=None)
    assert seconds(job(stage="quantize", tokens=None), done) == (16.0, SAME_MODEL)


def test_a_download_goes_by_what_arrives_and_the_small_takes_as_long_as_it_did() -> None:
    fetched = timed(stage="fetch", tokens=None, model_bytes=None, output_bytes=14, family=None)
    work = job(stage="fetch", tokens=None, model_bytes=None, family=None)
    assert seconds(work, fetched) == (5.0, OTHER_MODELS)
    chosen = timed(stage="select", tokens=None, model_bytes=None, output_bytes=9999)
    work = job(stage="select", tokens=None, model_bytes=None)
    assert seconds(work, chosen) == (10.0, SAME_MODEL)


def test_a_set_of_tasks_is_told_by_the_same_set_only() -> None:
    done = timed(stage="tasks", tokens=None, text="arc")
    assert seconds(job(stage="tasks", tokens=None, text="arc"), done) == (10.0, SAME_MODEL)
    assert guess(job(stage="tasks", tokens=None, text="mmlu"), [done]) is None


def test_a_bench_of_other_tests_tells_nothing() -> None:
    done = timed(stage="bench", tokens=None, params={"tests": ["pp512"]})
    work = job(stage="bench", tokens=None, params={"tests": ["pp512"]})
    assert seconds(work, done) == (16.0, SAME_MODEL)
    assert guess(job(stage="bench", tokens=None, params={"tests": ["tg128"]}), [done]) is None


def test_every_step_that_uses_a_model_knows_the_checkpoint_behind_it() -> None:
    choice = {"ftype": "Q4_K_M", "name": "Q4", "candidates": ["Q4_K_M"], "pure": True}
    made = plan(CALIBRATED, calibration=CALIBRATION, variants=[choice])
    steps = {step.key: step for step in made.steps}
    digests = {key: f"print of {key}" for key in steps}

    for key in ("reference", "imatrix", "quantize/Q4~base", "kld/Q4~base", "bench/Q4", "select/Q4"):
        assert family_of(steps[key], steps, digests) == leaf("model").digest, key
    assert family_of(steps["inspect"], steps, digests) is None
