"""How well the divergence at some types predicts that at others, tensor by tensor."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from llamacpp_pipeline.allocate.sensitivity import Point, is_significant, sensitivity
from llamacpp_pipeline.results.documented import Documented
from llamacpp_pipeline.stages.sensitivity import SensitivityResult, TensorSensitivity
from llamacpp_pipeline.units import Estimate


class LogError(Documented):
    """How far predictions are from measurements: of |ln(predicted / measured)|."""

    n: PositiveInt
    """Pairs compared."""
    median: NonNegativeFloat
    """The median of the size."""
    rms: NonNegativeFloat
    """The root of the mean square."""


class FitPoint(Documented):
    """One tensor at one measured type."""

    tensor: str
    """Its name."""
    type: str
    """ggml type."""
    rho: PositiveFloat
    """Relative error of the tensor's output at it."""
    measured: Estimate
    """Divergence in nats, with its error over chunks."""
    line: NonNegativeFloat
    """What alpha alone says: alpha x (rho + noise)."""
    others: NonNegativeFloat | None = None
    """What the tensor's other types predict, this one left out; absent where there is none."""


class CurveFit(Documented):
    """The measured divergences, and what the fit makes of them (docs/allocation.md)."""

    noise: NonNegativeFloat
    """Relative error of rounded inputs that rho is taken to have besides."""
    line: LogError | None = None
    """Of alpha alone, which was fitted to these very measurements."""
    others: LogError | None = None
    """Of the predictions from a tensor's other types."""
    by_type: dict[str, LogError] = {}
    """The same for each type that was left out."""
    n_unclear: NonNegativeInt
    """Measurements less than two standard errors above zero, which are not compared."""
    points: tuple[FitPoint, ...]
    """Every measurement compared."""


def curve_fit(found: SensitivityResult) -> CurveFit:
    """Every measurement against what alpha and the other types of its tensor say."""
    points = [point for tensor in found.tensors for point in _points(tensor, found.noise)]
    types = list(dict.fromkeys(point.type for point in points))
    by_type = {kind: _others([p for p in points if p.type == kind]) for kind in types}
    return CurveFit(
        noise=found.noise,
        line=log_error([(point.line, point.measured.value) for point in points]),
        others=_others(points),
        by_type={kind: error for kind, error in by_type.items() if error is not None},
        n_unclear=sum(len(tensor.measured) for tensor in found.tensors) - len(points),
        points=tuple(points),
    )


def log_error(pairs: Sequence[tuple[float, float]]) -> LogError | None:
    """Of (predicted, measured); those without a logarithm are left out."""
    sizes = [abs(math.log(p / m)) for p, m in pairs if p > 0 and m > 0]
    if not sizes:
        return None
    rms = math.sqrt(math.fsum(size**2 for size in sizes) / len(sizes))
    return LogError(n=len(sizes), median=statistics.median(sizes), rms=rms)


def _others(points: Sequence[FitPoint]) -> LogError | None:
    return log_error([(p.others, p.measured.value) for p in points if p.others is not None])


def _points(tensor: TensorSensitivity, noise: float) -> Iterator[FitPoint]:
    every = [
        Point(rho=m.rho, divergence=m.divergence.value, stderr=m.divergence.stderr or 0.0)
        for m in tensor.measured
    ]
    for at, (one, point) in enumerate(zip(tensor.measured, every, strict=True)):
        if not is_significant(point):
            continue
        rest = [*every[:at], *every[at + 1 :]]
        others = sensitivity(rest, noise=noise).divergence(one.rho) if rest else None
        yield FitPoint(
            tensor=tensor.name,
            type=one.type,
            rho=one.rho,
            measured=one.divergence,
            line=tensor.alpha.value * (one.rho + noise),
            others=others,
        )
