"""The lines that llama-kld-probe writes: one measured divergence each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, FiniteFloat, NonNegativeFloat, PositiveInt
from pydantic import ValidationError as WrongFormError

from llamacpp_pipeline.errors import UnreadableOutputError

TOOL = "llama-kld-probe"


class Measurement(BaseModel):
    """What quantizing some tensors did to the model's predictions; without tensors, the floor."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    key: str
    id: str
    hold: Literal["native", "dequantized"]
    tensors: dict[str, str]  # name -> tensor type
    relative_error: dict[str, NonNegativeFloat]  # of the weights, weighed with the imatrix
    n_ctx: PositiveInt
    n_chunks: PositiveInt
    n_tokens: PositiveInt  # scored
    kld: FiniteFloat  # mean, nats
    kld_stderr: NonNegativeFloat  # over positions
    kld_p999: FiniteFloat
    same_top: NonNegativeFloat  # percent
    chunk_kld: tuple[FiniteFloat, ...]
    seconds: NonNegativeFloat

    @property
    def only_type(self) -> str | None:
        """The type of its tensors, where they share one."""
        types = set(self.tensors.values())
        return types.pop() if len(types) == 1 else None


def read_measurements(path: Path) -> tuple[Measurement, ...]:
    """All of them, the floor first.

    Raises:
        UnreadableOutputError: where a line is of another form, or the floor is missing.

    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        found = [Measurement.model_validate_json(line) for line in lines]
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableOutputError(TOOL, "its measurements", (str(error),)) from error
    except WrongFormError as error:
        evidence = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:6]]
        raise UnreadableOutputError(TOOL, "whole lines of measurements", evidence) from error
    if not found or found[0].tensors:
        raise UnreadableOutputError(TOOL, "the measurement of the floor first")
    refuse_twice(found)
    return tuple(found)


def refuse_twice(found: Sequence[Measurement]) -> None:
    """Refuse two measurements of one thing.

    Raises:
        UnreadableOutputError: naming it.

    """
    keys = [measurement.key for measurement in found]
    for measurement in found:
        if keys.count(measurement.key) > 1:
            evidence = (f"{measurement.id}: {measurement.tensors}",)
            raise UnreadableOutputError(TOOL, "each measurement once", evidence)
