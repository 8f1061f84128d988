"""The devices of a run: what a step is told that runs on one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from llamacpp_pipeline.config.placement import PlacementConfig
from llamacpp_pipeline.errors import ConfigError
from llamacpp_pipeline.plan.lanes import Lanes
from llamacpp_pipeline.plan.step import Step
from llamacpp_pipeline.stages.tool_flags import n_threads

VISIBLE = {
    "cuda": "CUDA_VISIBLE_DEVICES",
    "hip": "HIP_VISIBLE_DEVICES",
    "vulkan": "GGML_VK_VISIBLE_DEVICES",
}


@dataclass(frozen=True, kw_only=True)
class Device:
    """One device, or one share of the CPU."""

    name: str
    n_threads: int | None = None  # of a step on it; None: as placed
    environment: Mapping[str, str] = field(default_factory=dict)  # confines a child to it

    def placed(self, step: Step) -> Step:
        """The step as it runs here."""
        if self.n_threads is None:
            return step
        placement = step.placement.model_copy(update={"n_threads": self.n_threads})
        return replace(step, placement=placement)


@dataclass(frozen=True, kw_only=True)
class Devices:
    """All of them; none: one step at a time, on all there is."""

    each: tuple[Device, ...] = ()

    @property
    def lanes(self) -> Lanes:
        """Them by name."""
        return Lanes(devices=tuple(device.name for device in self.each))

    def at(self, place: str) -> Device:
        """The device of a place; a nameless one where the place is none of them."""
        return next((one for one in self.each if one.name == place), Device(name=place))


ONE_AT_A_TIME = Devices()


def devices_of(placement: PlacementConfig, *, backend: str, environ: Mapping[str, str]) -> Devices:
    """The devices that a configuration names.

    Raises:
        ConfigError: where there are fewer than it names.

    """
    if not placement.devices:
        return ONE_AT_A_TIME
    if all(isinstance(device, str) for device in placement.devices):
        return _slots(placement)
    indices = [device for device in placement.devices if isinstance(device, int)]
    variable = VISIBLE[backend]
    return Devices(
        each=tuple(
            Device(name=str(index), environment={variable: _visible(index, variable, environ)})
            for index in indices
        )
    )


def _slots(placement: PlacementConfig) -> Devices:
    total, n = n_threads(placement), len(placement.devices)
    if n > total:
        raise ConfigError(
            f"placement.devices names {n} CPU slots for {total} threads",
            hint=f"name at most {total}, or raise placement.n_threads",
        )
    each = (Device(name=str(name), n_threads=total // n) for name in placement.devices)
    return Devices(each=tuple(each))


def _visible(index: int, variable: str, environ: Mapping[str, str]) -> str:
    """A device by its number among those that the user's own variable leaves."""
    given = environ.get(variable)
    if given is None:
        return str(index)
    names = [name.strip() for name in given.split(",") if name.strip()]
    if index >= len(names):
        raise ConfigError(
            f"placement.devices names {index}, and {variable}={given} leaves {len(names)}",
            hint=f"number them from 0 within {variable}, or unset it",
        )
    return names[index]
