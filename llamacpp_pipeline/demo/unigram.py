"""Perplexity of a unigram model: what a model that learned nothing but frequencies reaches."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence


def unigram_ppl(training: Sequence[int], scored: Sequence[int], *, n_vocab: int) -> float:
    """Return the perplexity of add-one smoothed token frequencies.

    exp of the mean of -ln((count + 1) / (tokens + n_vocab)) over the scored tokens.
    """
    counts, total = Counter(training), len(training) + n_vocab
    nll = -sum(math.log((counts[token] + 1) / total) for token in scored)
    return math.exp(nll / len(scored))


def scored_tokens(tokens: Sequence[int], *, n_ctx: int) -> list[int]:
    """Return the tokens that llama-perplexity scores.

    Chunks of n_ctx do not overlap; of each, the tokens after position n_ctx/2 count.
    """
    starts = range(0, len(tokens) - n_ctx + 1, n_ctx)
    return [token for start in starts for token in tokens[start + n_ctx // 2 + 1 : start + n_ctx]]
