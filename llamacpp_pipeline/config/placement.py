"""Where a run's steps run: what every tool is told, and the devices that measure at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

from llamacpp_pipeline.config.clash import Clash
from llamacpp_pipeline.stages.base import Placement

if TYPE_CHECKING:
    from llamacpp_pipeline.config.schema import PipelineConfig

CPU_SLOT = re.compile(r"cpu\d+")
WITH_DEVICES = ("cuda", "hip", "vulkan")  # backends whose devices a child can be confined to


def device(value: int | str) -> int | str:
    """A GPU's number, or the name of a CPU slot.

    Raises:
        ValueError: for anything else.

    """
    known = CPU_SLOT.fullmatch(value) if isinstance(value, str) else value >= 0
    if not known:
        message = f"{value} is no device: GPUs are called 0, 1, shares of the CPU cpu0, cpu1"
        raise ValueError(message)
    return value


DeviceName = Annotated[int | str, AfterValidator(device)]


class PlacementConfig(Placement):
    """The stages' own placement, and which devices measure independently of each other."""

    devices: tuple[DeviceName, ...] = ()

    @property
    def of_stages(self) -> Placement:
        """What the stages know of it: all that is hashed where a placement is."""
        return Placement(**{name: getattr(self, name) for name in Placement.model_fields})


def device_clashes(config: PipelineConfig) -> Iterator[Clash]:
    """Devices of two kinds, one named twice, or of a kind that the backend has not."""
    devices = config.placement.devices
    path, backend = ("placement", "devices"), config.toolchain.backend
    slots = [device for device in devices if isinstance(device, str)]
    gpus = [device for device in devices if isinstance(device, int)]
    if len(set(devices)) < len(devices):
        yield Clash(path=path, message="one device is named twice")
    if slots and gpus:
        message = "name either GPUs (0, 1) or CPU slots (cpu0, cpu1): their figures differ"
        yield Clash(path=path, message=message)
    elif gpus and backend not in WITH_DEVICES:
        instead = "; CPU slots are called cpu0, cpu1" if backend == "cpu" else ""
        message = f"the {backend} backend has no GPUs to tell apart{instead}"
        yield Clash(path=path, message=message)
    elif slots and backend != "cpu":
        message = f"CPU slots are for the cpu backend; GPUs of {backend} are called 0, 1"
        yield Clash(path=path, message=message)
