"""How much the model's output diverges per unit of a tensor's error, from a few measurements.

Divergence D (nats, mean over positions) of a model in which one tensor alone has a type of
relative error rho is taken to be alpha * (rho + noise): to second order both are quadratic in the
error of the weights, and the noise is that of the inputs, where those are rounded too. Between two
measured types the curve goes through both, straight in the logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from llamacpp_pipeline.units import Estimate

# Relative error of a product whose inputs the CPU rounds to 8 bits; docs/allocation.md
ACTIVATION_NOISE = 3e-5
SCATTER = 0.2  # of D / (alpha * rho) over the types of a tensor, relative; docs/allocation.md
SIGNIFICANT = 2.0  # standard errors above zero, for a point to bend the curve
SLOPES = (0.5, 2.0)  # of the curve in logarithms; what is steeper or flatter is noise
FEWEST = 3  # pairs that have a rank correlation worth the name


@dataclass(frozen=True, kw_only=True)
class Point:
    """One measurement: a type's relative error, and the divergence it causes (floor taken off)."""

    rho: float
    divergence: float
    stderr: float


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """A tensor's, with the points that it comes from in the order of their rho."""

    alpha: Estimate
    points: tuple[Point, ...]  # rho with the noise
    noise: float

    def divergence(self, rho: float) -> float:
        """What a type of this relative error would cost, nats; nothing, where there is none."""
        if rho <= 0:
            return 0.0
        error, trusted = rho + self.noise, [p for p in self.points if is_significant(p)]
        if not trusted:
            return self.alpha.value * error
        if error <= trusted[0].rho or error >= trusted[-1].rho:
            end = trusted[0] if error <= trusted[0].rho else trusted[-1]
            return end.divergence * error / end.rho
        after = next(at for at, point in enumerate(trusted) if point.rho >= error)
        return between(trusted[after - 1], trusted[after], error)


def is_significant(point: Point) -> bool:
    """Whether it is told from no divergence at all."""
    return point.divergence > 0 and point.divergence >= SIGNIFICANT * point.stderr


def between(low: Point, high: Point, rho: float) -> float:
    """On the line between two points in logarithms; it keeps to both unless they contradict."""
    span = math.log(high.rho / low.rho)
    if span <= 0:
        return high.divergence
    slope = math.log(high.divergence / low.divergence) / span
    if slope < SLOPES[0] or slope > SLOPES[1]:
        middle = math.sqrt(high.divergence * low.divergence)
        return middle * rho / math.sqrt(low.rho * high.rho)
    return float(low.divergence * (rho / low.rho) ** slope)


def sensitivity(points: Sequence[Point], *, noise: float = 0.0) -> Sensitivity:
    """Alpha by weighted least squares through zero, and the points.

    A point's error is its own and, added in squares, the scatter of types about the line.

    Raises:
        ValueError: where there is no point, or one whose rho is not positive.

    """
    if not points or any(point.rho <= 0 for point in points):
        message = "a sensitivity needs points, each with a positive relative error"
        raise ValueError(message)
    shifted = (replace(point, rho=point.rho + noise) for point in points)
    ordered = tuple(sorted(shifted, key=lambda point: point.rho))
    weights = [1 / variance(point) for point in ordered]
    square = sum(w * p.rho**2 for w, p in zip(weights, ordered, strict=True))
    product = sum(w * p.rho * p.divergence for w, p in zip(weights, ordered, strict=True))
    alpha = Estimate(value=max(product / square, 0.0), stderr=1 / math.sqrt(square))
    return Sensitivity(alpha=alpha, points=ordered, noise=noise)


def variance(point: Point) -> float:
    """Of a point about the line, nats squared; never zero."""
    own, of_types = point.stderr, SCATTER * max(point.divergence, 0.0)
    return own**2 + of_types**2 + (1e-12 * point.rho) ** 2


def paired(chunks: Sequence[float], floor: Sequence[float]) -> Estimate:
    """The mean of a difference measured on the same chunks, with its error over them.

    Raises:
        ValueError: where there are not two chunks in common.

    """
    n = min(len(chunks), len(floor))
    if n < 2:
        message = "an error over chunks needs two of them"
        raise ValueError(message)
    differences = [a - b for a, b in zip(chunks[:n], floor[:n], strict=True)]
    mean = math.fsum(differences) / n
    square = math.fsum((d - mean) ** 2 for d in differences)
    return Estimate(value=mean, stderr=math.sqrt(square / (n - 1) / n))


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Spearman's, ties by their mean rank; None for too few pairs or where all are equal."""
    if len(x) < FEWEST:
        return None
    a, b = ranks(x), ranks(y)
    middle = (len(x) + 1) / 2
    spread = math.sqrt(sum((r - middle) ** 2 for r in a) * sum((r - middle) ** 2 for r in b))
    if spread == 0:
        return None
    return sum((p - middle) * (q - middle) for p, q in zip(a, b, strict=True)) / spread


def ranks(values: Sequence[float]) -> list[float]:
    """Counted from 1, equal values alike."""
    order = sorted(values)
    first = {value: at for at, value in reversed(list(enumerate(order, start=1)))}
    return [first[v] + (order.count(v) - 1) / 2 for v in values]
