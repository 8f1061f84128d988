"""The machine, as far as figures depend on it; never its name."""

from __future__ import annotations

import platform
from pathlib import Path

import psutil

from llamacpp_pipeline.results.record import Machine

CPUINFO = Path("/proc/cpuinfo")
NVIDIA = Path("/proc/driver/nvidia/gpus")


def this_machine() -> Machine:
    """CPU model, cores and NVIDIA GPUs, system, memory."""
    n_cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    return Machine(
        hostless_name=" + ".join((f"{cpu_model()} ({n_cores} cores)", *gpu_models())),
        system=f"{platform.system()} {platform.machine()}",
        n_cores=n_cores,
        memory_bytes=psutil.virtual_memory().total,
    )


def machine_identity(machine: Machine) -> str:
    """What machine-bound steps hash: the same on every start of the same machine."""
    return "|".join((machine.hostless_name, machine.system, str(machine.n_cores)))


def cpu_model(cpuinfo: Path = CPUINFO) -> str:
    """The CPU's name for people, or the architecture where the system does not tell."""
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.machine()


def gpu_models(folder: Path = NVIDIA) -> tuple[str, ...]:
    """The models of the NVIDIA GPUs that the driver shows."""
    if not folder.is_dir():
        return ()
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*/information"))]
    lines = (line.partition(":") for text in texts for line in text.splitlines())
    return tuple(value.strip() for name, _, value in lines if name.strip() == "Model")
