"""Points of the experiments on sensitivities: two mixes of one size on one text, compared."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from llamacpp_pipeline.stages.probe_lines import Measurement
from llamacpp_pipeline.units import Estimate

BETTER = 0.95  # ratio of mean KLD from which on tail and top token must not be worse
PERCENT = 100


@dataclass(frozen=True, kw_only=True)
class Point:
    """All mixes of one size of one model on one text, by the name of their origin."""

    model: str
    text: str
    size: str
    bpw: float
    mixes: Mapping[str, Measurement]

    def ratio(self, of: str, to: str) -> Estimate:
        """Of the mean KLDs, with its error over the chunks that both were measured on."""
        return ratio(self.mixes[of].chunk_kld, self.mixes[to].chunk_kld)


def ratio(a: Sequence[float], b: Sequence[float]) -> Estimate:
    """Of the means of paired values, with its standard error to first order (delta method)."""
    n, mean_a, mean_b = len(a), math.fsum(a) / len(a), math.fsum(b) / len(b)
    value = mean_a / mean_b
    square = math.fsum((x / mean_a - y / mean_b) ** 2 for x, y in zip(a, b, strict=True))
    return Estimate(value=value, stderr=value * math.sqrt(square / n / (n - 1)))


def geometric_mean(values: Iterable[float]) -> float:
    logs = [math.log(value) for value in values]
    return math.exp(math.fsum(logs) / len(logs))


def table(points: Sequence[Point], *, of: str) -> str:
    """A row for each size: mean KLDs, their ratios, and the tail and top token of each mix."""
    others = [name for name in points[0].mixes if name != of]
    heads = [*others, of, *(f"to {name}" for name in others), "99.9 %", "same top"]
    lines = [row(["size of", "bpw", *heads]), row(["---"] * (len(heads) + 2))]
    for point in points:
        measured = [point.mixes[name] for name in (*others, of)]
        cells = [point.size, f"{point.bpw:.4f}", *(f"{m.kld:.6f}" for m in measured)]
        cells += [shown(point.ratio(of, name)) for name in others]
        cells.append(" / ".join(f"{m.kld_p999:.4f}" for m in measured))
        cells.append(" / ".join(f"{m.same_top:.2f}" for m in measured))
        lines.append(row(cells))
    means = [f"**{mean(points, of=of, to=name):.3f}**" for name in others]
    lines.append(row(["geometric mean", "", *[""] * len(points[0].mixes), *means, "", ""]))
    return "\n".join(lines)


def shown(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ± {estimate.stderr:.3f}"


def row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def mean(points: Iterable[Point], *, of: str, to: str) -> float:
    """Geometric, of the ratios."""
    return geometric_mean(point.ratio(of, to).value for point in points)


def summary(points: Sequence[Point], *, of: str, to: str) -> str:
    """How a kind of mix does against another, over all that was measured, and where it fails."""
    ratios = [point.ratio(of, to) for point in points]
    above = [f"{where(p)} {shown(r)}" for p, r in zip(points, ratios, strict=True) if r.value > 1]
    better = [p for p, r in zip(points, ratios, strict=True) if r.value < BETTER]
    tail = [found for point in better if (found := worse_tail(point, of, to))]
    top = [found for point in better if (found := worse_top(point, of, to))]
    head = f"{of} to {to}: geometric mean {mean(points, of=of, to=to):.3f}"
    lines = [f"{head} over {len(points)} points, {len(above)} above 1"]
    lines += [f"    above 1: {found}" for found in above]
    lines.append(f"    of {len(better)} points that are better by over 5 %:")
    lines.append(f"    99.9 % KLD worse at {len(tail)}, same top worse at {len(top)}")
    return "\n".join([*lines, *(f"    {found}" for found in (*tail, *top))])


def worse_tail(point: Point, of: str, to: str) -> str | None:
    ours, theirs = point.mixes[of].kld_p999, point.mixes[to].kld_p999
    if ours <= theirs:
        return None
    return f"99.9 % KLD: {where(point)} {ours:.4f} against {theirs:.4f}"


def worse_top(point: Point, of: str, to: str) -> str | None:
    """The error is that of a share of the positions, those of both mixes being the same."""
    ours, theirs = point.mixes[of], point.mixes[to]
    if ours.same_top >= theirs.same_top:
        return None
    share = ours.same_top / PERCENT
    error = PERCENT * math.sqrt(share * (1 - share) / ours.n_tokens)
    return (
        f"same top: {where(point)} {ours.same_top:.2f} against {theirs.same_top:.2f} ± {error:.2f}"
    )


def where(point: Point) -> str:
    return f"{point.model}, {point.text}, {point.size}:"
