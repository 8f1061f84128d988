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


def table(points: Sequence[Point], pairs: Sequence[tuple[str, str]]) -> str:
    """A row for each size of one model; in its cells, what each text gave."""
    texts = list(dict.fromkeys(point.text for point in points))
    names = list(points[0].mixes)
    heads = ["size of", "bpw", *names, *(f"{of} to {to}" for of, to in pairs)]
    lines = [f"{points[0].model}; {' / '.join(texts)}:\n", row(heads), row(["---"] * len(heads))]
    for size in dict.fromkeys(point.size for point in points):
        here = [point for point in points if point.size == size]
        klds = [each(f"{point.mixes[name].kld:.5f}" for point in here) for name in names]
        ratios = [each(shown(point.ratio(of, to)) for point in here) for of, to in pairs]
        lines.append(row([size, f"{here[0].bpw:.4f}", *klds, *ratios]))
    for label, value in (("mean KLD", mean), ("99.9 % KLD", tail_mean)):
        found = [
            each(f"{value([p for p in points if p.text == t], of=of, to=to):.3f}" for t in texts)
            for of, to in pairs
        ]
        lines.append(row([f"geometric mean, {label}", *[""] * (len(names) + 1), *found]))
    return "\n".join(lines)


def each(cells: Iterable[str]) -> str:
    return " / ".join(cells)


def shown(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ± {estimate.stderr:.3f}"


def row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def mean(points: Iterable[Point], *, of: str, to: str) -> float:
    """Geometric, of the ratios."""
    return geometric_mean(point.ratio(of, to).value for point in points)


def tail_mean(points: Iterable[Point], *, of: str, to: str) -> float:
    """Geometric, of the ratios of 99.9 % KLD."""
    return geometric_mean(p.mixes[of].kld_p999 / p.mixes[to].kld_p999 for p in points)


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
