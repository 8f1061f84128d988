"""The importance matrix: mean squared activations per input channel, from calibration text."""

from __future__ import annotations

from pydantic import PositiveInt

from llamacpp_pipeline.stages.base import Frozen
from llamacpp_pipeline.units import Estimate


class ImatrixParams(Frozen):
    """How the calibration text is cut."""

    n_ctx: PositiveInt = 512
    n_chunks: PositiveInt | None = None
    n_batch: PositiveInt = 2048
    n_ubatch: PositiveInt = 512
    process_output: bool = False  # collect for output.weight too
    parse_special: bool = False


class ImatrixResult(Frozen):
    n_entries: PositiveInt
    n_chunks: PositiveInt
    n_ctx: PositiveInt
    ppl: Estimate | None  # of the calibration text, where the tool printed it
    partial: tuple[str, ...]  # expert tensors that some experts never fed
