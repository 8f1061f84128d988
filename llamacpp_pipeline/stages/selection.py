"""Which candidate of a variant is kept: the rule of the cards, with errors.

Lowest mean KLD first, compared over the same chunks; of those that tie within the error the
highest PPL correlation; of those that tie there too the highest task average, where all have one.
What ties in everything is said to tie, and the lowest mean KLD is kept, as the best guess there is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from llamacpp_pipeline.stages.base import Frozen
from llamacpp_pipeline.stages.kld import KldResult
from llamacpp_pipeline.stages.paired import CONFIDENCE, Difference, kld_difference
from llamacpp_pipeline.units import Estimate

Reason = Literal["only", "kld", "rho_ppl", "tasks", "tie"]
PRINTED = 0.01  # percent: llama-perplexity prints the correlation no finer
Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)


class Candidate(Frozen):
    """One candidate as it was made and measured."""

    name: str
    file_bytes: PositiveInt
    bpw: PositiveFloat
    quality: KldResult
    task_average: Estimate | None = None  # percent correct
    answers: tuple[tuple[bool, ...], ...] = ()  # of each set: whether each task was answered right


class Judged(Frozen):
    """What became of one candidate."""

    name: str
    file_bytes: PositiveInt
    bpw: PositiveFloat
    mean_kld: Estimate
    ppl_correlation: float  # percent
    task_average: Estimate | None
    too_large: bool  # for the size of the first one, so out of the running
    difference: Difference | None  # its mean KLD minus the kept one's; None of the kept one


class Decision(Frozen):
    """The candidate kept, by what, and the figures of all in the order given."""

    kept: str
    reason: Reason
    larger_by: NonNegativeFloat
    candidates: tuple[Judged, ...]


def decide(candidates: Sequence[Candidate], *, larger_by: float) -> Decision:
    """The decision. The first candidate sets the size that the others may exceed by a share.

    Raises:
        ValueError: without candidates.

    """
    if not candidates:
        message = "no candidates"
        raise ValueError(message)
    size = candidates[0].file_bytes
    running = [one for one in candidates if one.file_bytes - size <= larger_by * size]
    kept, reason = best(running)
    return Decision(
        kept=kept.name,
        reason=reason,
        larger_by=larger_by,
        candidates=tuple(judged(one, kept, too_large=one not in running) for one in candidates),
    )


def best(running: Sequence[Candidate]) -> tuple[Candidate, Reason]:
    """The candidate to keep, and the first criterion that tells it from all others."""
    if len(running) == 1:
        return running[0], "only"
    left = list(running)
    for reason, narrowed in CRITERIA:
        left = narrowed(left)
        if len(left) == 1:
            return left[0], reason
    return min(left, key=mean_kld), "tie"


def by_kld(running: list[Candidate]) -> list[Candidate]:
    """Those whose mean KLD ties with the lowest."""
    lowest = min(running, key=mean_kld)
    return [one for one in running if kld_difference(one.quality, lowest.quality).is_tie]


def by_rho(running: list[Candidate]) -> list[Candidate]:
    """Those whose PPL correlation ties with the highest."""
    highest = max(running, key=rho)
    return [one for one in running if rho(highest) - rho(one) <= rho_bound(highest, one)]


def by_tasks(running: list[Candidate]) -> list[Candidate]:
    """Those whose task average ties with the highest; all where one has none."""
    if any(one.task_average is None for one in running):
        return running
    top = max(running, key=task_average)
    return [
        one for one in running if task_average(top) - task_average(one) <= Z * task_error(top, one)
    ]


def task_average(one: Candidate) -> float:
    """Percent; below all others where there is none."""
    return -1.0 if one.task_average is None else one.task_average.value


def task_error(one: Candidate, other: Candidate) -> float:
    """The standard error of the difference of two averages, percent.

    Over the same tasks, where both have the answers to them, else as if they were other tasks.
    """
    sizes = [tuple(map(len, each.answers)) for each in (one, other)]
    if not sizes[0] or sizes[0] != sizes[1]:
        errors = (each.task_average and each.task_average.stderr for each in (one, other))
        return math.hypot(*(error or 0.0 for error in errors))
    pairs = zip(one.answers, other.answers, strict=True)
    return math.hypot(*(paired_error(a, b) for a, b in pairs)) / len(sizes[0])


def paired_error(one: Sequence[bool], other: Sequence[bool]) -> float:
    """The standard error of a difference of two scores on the same tasks, percent."""
    n = len(one)
    differences = [int(a) - int(b) for a, b in zip(one, other, strict=True)]
    mean = sum(differences) / n
    spread = sum((d - mean) ** 2 for d in differences)
    return 100 * math.sqrt(spread / max(1, n - 1) / n)


CRITERIA: tuple[tuple[Reason, Callable[[list[Candidate]], list[Candidate]]], ...] = (
    ("kld", by_kld),
    ("rho_ppl", by_rho),
    ("tasks", by_tasks),
)


def mean_kld(one: Candidate) -> float:
    """In nats."""
    return one.quality.mean_kld.value


def rho(one: Candidate) -> float:
    """The PPL correlation, percent."""
    return one.quality.ppl_correlation


def rho_bound(one: Candidate, other: Candidate) -> float:
    """What a difference of PPL correlations must exceed, in percent.

    That is the rounding, and the errors of two correlations r over n tokens, (1 - r²)/√n each
    (Fisher), as if they were independent.
    """
    n = one.quality.n_chunks * (one.quality.n_ctx - 1 - one.quality.n_ctx // 2)
    errors = ((1 - (rho(each) / 100) ** 2) / math.sqrt(n) for each in (one, other))
    return PRINTED + 100 * Z * math.hypot(*errors)


def judged(one: Candidate, kept: Candidate, *, too_large: bool) -> Judged:
    """A candidate's figures, and how far it is from the kept one."""
    return Judged(
        name=one.name,
        file_bytes=one.file_bytes,
        bpw=one.bpw,
        mean_kld=one.quality.mean_kld,
        ppl_correlation=rho(one),
        task_average=one.task_average,
        too_large=too_large,
        difference=None if one is kept else kld_difference(one.quality, kept.quality),
    )
