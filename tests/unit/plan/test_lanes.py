"""What may run beside what, and how long it takes together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llamacpp_pipeline.plan.lanes import ALL, HOST, Lanes, elapsed, startable
from llamacpp_pipeline.plan.step import Step
from llamacpp_pipeline.stages.table import STAGES
from tests.unit.plan.world import plan

CPU = Lanes(devices=("cpu0", "cpu1"))
GPU = Lanes(devices=("0", "1"))
STEPS = {step.key: step for step in plan().steps}
KLD, OTHER, QUANTIZE = STEPS["kld/Q8_0"], STEPS["kld/Q4_K_M"], STEPS["quantize/Q4_K_M"]
BENCH, REFERENCE = STEPS["bench/Q8_0"], STEPS["reference"]


def test_without_devices_one_step_runs_at_a_time() -> None:
    assert Lanes().place(KLD, ()) == ALL
    assert Lanes().place(KLD, {ALL}) is None


def test_measurements_take_a_device_each() -> None:
    assert GPU.place(KLD, ()) == "0"
    assert GPU.place(OTHER, {"0"}) == "1"
    assert GPU.place(OTHER, {"0", "1"}) is None


@pytest.mark.parametrize("lanes", [CPU, GPU])
@pytest.mark.parametrize("step", [BENCH, REFERENCE])
def test_bench_and_what_fills_the_machine_run_beside_nothing(lanes: Lanes, step: Step) -> None:
    assert lanes.place(step, ()) == ALL
    assert lanes.place(step, {lanes.devices[0]}) is None
    assert lanes.place(step, {HOST}) is None
    assert lanes.place(KLD, {ALL}) is None
    assert lanes.place(QUANTIZE, {ALL}) is None


def test_quantizing_goes_on_beside_gpus_and_shares_the_cpu() -> None:
    assert GPU.place(QUANTIZE, {"0", "1"}) == HOST
    assert GPU.place(QUANTIZE, {HOST}) is None
    assert CPU.place(QUANTIZE, {"cpu0"}) == "cpu1"
    assert CPU.place(QUANTIZE, {"cpu0", "cpu1"}) is None


def test_every_stage_that_measures_one_model_takes_a_device() -> None:
    assert "device" in {stage.lane for stage in STAGES.values()}
    assert STAGES["kld"].lane == "device"
    assert {name for name, stage in STAGES.items() if stage.machine_bound} == {"bench"}
    assert STAGES["bench"].lane == "alone"


def test_a_step_starts_when_what_it_needs_has_ended() -> None:
    waiting = (KLD, OTHER)
    assert startable(waiting, over=(), busy={}, lanes=GPU) is None
    found = startable(waiting, over=("quantize/Q4_K_M", "reference"), busy={}, lanes=GPU)
    assert found == (OTHER, "0")


def test_bench_waits_until_nothing_else_can_start() -> None:
    free = replace(BENCH, inputs={}), replace(KLD, inputs={})
    assert startable(free, over=(), busy={}, lanes=GPU) == (free[1], "0")
    assert startable(free[:1], over=(), busy={}, lanes=GPU) == (free[0], ALL)


def test_two_devices_take_half_the_time_of_what_can_be_shared() -> None:
    steps = [replace(KLD, key=f"kld/{at}", inputs={}) for at in range(4)]
    seconds = dict.fromkeys((step.key for step in steps), 10.0)

    assert elapsed(steps, seconds, lanes=Lanes()) == 40
    assert elapsed(steps, seconds, lanes=GPU) == 20
    assert elapsed(steps[:3], seconds, lanes=GPU) == 20


def test_the_time_of_a_whole_plan_with_bench_alone() -> None:
    steps = tuple(STEPS.values())
    seconds = {key: 10.0 for key in STEPS if key.startswith(("kld/", "bench/"))}

    assert elapsed(steps, seconds, lanes=Lanes()) == 60
    assert elapsed(steps, seconds, lanes=CPU) == 50  # two of the three KLDs at once
    assert elapsed((KLD,), {"kld/Q8_0": 3.0}, lanes=GPU) == 3
