"""What a step is told that runs on one of several devices."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from llamacpp_pipeline.config.placement import PlacementConfig
from llamacpp_pipeline.engine.devices import Device, devices_of
from llamacpp_pipeline.errors import ConfigError
from llamacpp_pipeline.plan.fingerprint import documents
from llamacpp_pipeline.stages.base import Placement
from tests.unit.plan.world import config, identity, plan


def placement(*devices: object, n_threads: int = 8) -> PlacementConfig:
    return PlacementConfig.model_validate({"devices": devices, "n_threads": n_threads})


def test_none_are_none() -> None:
    assert devices_of(placement(), backend="cpu", environ={}).each == ()


def test_cpu_slots_share_the_threads() -> None:
    found = devices_of(placement("cpu0", "cpu1"), backend="cpu", environ={})

    assert found.each == (Device(name="cpu0", n_threads=4), Device(name="cpu1", n_threads=4))
    placed = found.at("cpu1").placed(plan().step("kld/Q8_0"))
    assert placed.placement == Placement(n_threads=4)
    assert found.at("all").placed(plan().step("bench/Q8_0")).placement == Placement()


@pytest.mark.parametrize(
    ("backend", "variable"),
    [
        ("cuda", "CUDA_VISIBLE_DEVICES"),
        ("hip", "HIP_VISIBLE_DEVICES"),
        ("vulkan", "GGML_VK_VISIBLE_DEVICES"),
    ],
)
def test_a_gpu_is_the_only_one_that_its_child_sees(backend: str, variable: str) -> None:
    found = devices_of(placement(0, 1), backend=backend, environ={})

    assert [one.environment for one in found.each] == [{variable: "0"}, {variable: "1"}]
    assert [one.n_threads for one in found.each] == [None, None]


def test_gpus_are_numbered_among_those_that_the_user_leaves() -> None:
    environ = {"CUDA_VISIBLE_DEVICES": "3, GPU-5f"}
    found = devices_of(placement(1, 0), backend="cuda", environ=environ)
    assert [one.environment["CUDA_VISIBLE_DEVICES"] for one in found.each] == ["GPU-5f", "3"]

    with pytest.raises(ConfigError, match="names 2, and CUDA_VISIBLE_DEVICES=3, GPU-5f leaves 2"):
        devices_of(placement(2), backend="cuda", environ=environ)


def test_more_slots_than_threads_are_refused() -> None:
    with pytest.raises(ConfigError, match="names 3 CPU slots for 2 threads") as caught:
        devices_of(placement("cpu0", "cpu1", "cpu2", n_threads=2), backend="cpu", environ={})
    assert caught.value.hint == "name at most 2, or raise placement.n_threads"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("devices", "backend", "message"),
    [
        ([0, 0], "cuda", "one device is named twice"),
        ([0, "cpu0"], "cuda", "either GPUs"),
        ([0, 1], "cpu", "the cpu backend has no GPUs to tell apart; CPU slots are called cpu0"),
        ([0, 1], "metal", "the metal backend has no GPUs to tell apart"),
        (["cpu0"], "cuda", "CPU slots are for the cpu backend; GPUs of cuda are called 0, 1"),
        (["gpu0"], "cuda", "gpu0 is no device: GPUs are called 0, 1, shares of the CPU cpu0"),
        ([-1], "cuda", "-1 is no device"),
    ],
)
def test_devices_that_cannot_be_are_refused(
    devices: list[object], backend: str, message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        config(placement={"devices": devices}, toolchain={"backend": backend})


def test_devices_change_no_fingerprint_not_even_that_of_bench() -> None:
    with_devices = plan(placement={"devices": ["cpu0", "cpu1"]})
    assert documents(with_devices, identity=identity, machine="here") == documents(
        plan(), identity=identity, machine="here"
    )
