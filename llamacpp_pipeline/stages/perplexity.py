"""Perplexity (PPL) of one GGUF on one corpus, and the reference logits for KL divergence."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt

from llamacpp_pipeline.stages.base import Frozen
from llamacpp_pipeline.units import Estimate


class PerplexityParams(Frozen):
    """How the corpus is cut and computed. Every field can change the number."""

    n_ctx: PositiveInt = 512
    n_chunks: PositiveInt | None = None  # None: the whole corpus
    n_batch: PositiveInt = 2048
    n_ubatch: PositiveInt = 512
    flash_attn: Literal["on", "off", "auto"] = "auto"


class PerplexityResult(Frozen):
    ppl: Estimate
    n_ctx: PositiveInt
    n_chunks: PositiveInt  # what the tool measured, which a short corpus can make fewer
    n_vocab: PositiveInt | None = None  # from the logits file, where one was written
    logits_bytes: PositiveInt | None = None
