from __future__ import annotations

import platform
from pathlib import Path

from llamacpp_pipeline.engine.machine import (
    cpu_model,
    gpu_models,
    machine_identity,
    this_machine,
)


def test_a_machine_is_described_without_its_name() -> None:
    machine = this_machine()

    assert machine.n_cores >= 1
    assert machine.memory_bytes > 1 << 20
    assert f"({machine.n_cores} cores)" in machine.hostless_name
    assert platform.node() not in machine.hostless_name.split()
    assert machine_identity(machine) == machine_identity(this_machine())


def test_the_cpus_name(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\n")

    assert cpu_model(tmp_path / "cpuinfo") == "Some CPU @ 3 GHz"
    assert cpu_model(tmp_path / "absent") != ""


def test_gpus_as_the_driver_names_them(tmp_path: Path) -> None:
    for number in range(2):
        folder = tmp_path / f"0000:0{number}"
        folder.mkdir()
        (folder / "information").write_text(f"Model: \t\t NVIDIA H{number}\nIRQ: 12\n")

    assert gpu_models(tmp_path) == ("NVIDIA H0", "NVIDIA H1")
    assert gpu_models(tmp_path / "absent") == ()
