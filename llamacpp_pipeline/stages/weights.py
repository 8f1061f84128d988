"""Does BF16 fit F16: every weight counted once, one tensor in memory at a time."""

from __future__ import annotations

from pydantic import NonNegativeInt, PositiveInt

from llamacpp_pipeline.stages.base import Frozen


class WeightsParams(Frozen):
    """Nothing changes the counts."""


class TensorTrouble(Frozen):
    name: str
    dtype: str
    n_values: PositiveInt
    max_abs: float
    n_overflow: NonNegativeInt  # |w| > 65504
    n_to_zero: NonNegativeInt  # non-zero, rounds to zero in F16
    n_subnormal: NonNegativeInt  # rounds to a subnormal F16
    n_nan: NonNegativeInt
    n_inf: NonNegativeInt


class WeightsResult(Frozen):
    n_values: PositiveInt
    n_overflow: NonNegativeInt
    n_to_zero: NonNegativeInt
    n_subnormal: NonNegativeInt
    n_nan: NonNegativeInt
    n_inf: NonNegativeInt
    max_abs: float
    fits_f16: bool  # no overflow, no NaN, no infinity
    tensors: tuple[TensorTrouble, ...]  # those with anything to report, worst first
