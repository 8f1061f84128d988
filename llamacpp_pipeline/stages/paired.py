"""Whether two files differ in mean KLD: over the same chunks, from the running means of the tool.

llama-perplexity prints after each chunk k the mean m_k over chunks 1..k, to five digits after the
point. The sum over the chunks i+1..j is j*m_j - i*m_i, so what a single late chunk contributed
drowns in the rounding (an error of up to 2k-1 times 0.000005). Sums over blocks of chunks lose
less: with 20 blocks the rounding alone makes the error of a difference of two files 0.000015
nats, however many chunks there are, and what is smaller cannot be told. Blocks also allow for
neighbouring chunks that resemble each other (the method of batch means).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from llamacpp_pipeline.stages.base import Frozen
from llamacpp_pipeline.stages.kld import KldResult
from llamacpp_pipeline.units import Estimate

BLOCKS = 20
FEWEST_BLOCKS = 5  # with fewer the error itself is too uncertain to go by
CONFIDENCE = 0.95


class Difference(Frozen):
    """One file's mean KLD minus another's, in nats: below zero where the first is better.

    `paired`: the error is that of the differences over the same chunks. Otherwise it is made of
    the errors of both, as if they were measured on different texts, which is too large.
    `bound` is what the difference must exceed to count as one, at 95 % confidence.
    """

    value: float
    stderr: float
    bound: float
    paired: bool

    @property
    def is_tie(self) -> bool:
        """Whether the error alone could explain it."""
        return abs(self.value) <= self.bound


def kld_difference(one: KldResult, other: KldResult) -> Difference:
    """Mean KLD of `one` minus that of `other`, measured on the same chunks."""
    value = one.mean_kld.value - other.mean_kld.value
    left, right = running_means(one), running_means(other)
    if len(left) != len(right) or len(left) < FEWEST_BLOCKS:
        return _unpaired(value, one.mean_kld, other.mean_kld)
    stderr, n_blocks = block_error([a - b for a, b in zip(left, right, strict=True)])
    bound = t_quantile(n_blocks - 1) * stderr
    return Difference(value=value, stderr=stderr, bound=bound, paired=True)


def running_means(result: KldResult) -> tuple[float, ...]:
    """Mean KLD over the first chunk, the first two, ...; empty where they were not kept."""
    return tuple(map(float, (result.running_kld or "").split()))


def block_error(running: Sequence[float]) -> tuple[float, int]:
    """The standard error of the last of some running means, and the number of blocks behind it."""
    n = len(running)
    n_blocks = min(BLOCKS, n)
    ends = [round(n * at / n_blocks) for at in range(n_blocks + 1)]
    sums = [0.0, *(end * running[end - 1] for end in ends[1:])]
    mean = running[-1]
    spread = sum(
        (sums[at + 1] - sums[at] - (ends[at + 1] - ends[at]) * mean) ** 2 for at in range(n_blocks)
    )
    return math.sqrt(spread * n_blocks / (n_blocks - 1)) / n, n_blocks


def t_quantile(freedom: int, *, confidence: float = CONFIDENCE) -> float:
    """The two-sided quantile of Student's t (Abramowitz & Stegun 26.7.5, its first three terms)."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def _unpaired(value: float, one: Estimate, other: Estimate) -> Difference:
    stderr = math.hypot(one.stderr or 0.0, other.stderr or 0.0)
    bound = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2) * stderr
    return Difference(value=value, stderr=stderr, bound=bound, paired=False)
