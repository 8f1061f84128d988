"""KL divergence of a quantized GGUF from the reference logits, by llama-perplexity."""

from __future__ import annotations

from pydantic import PositiveInt

from llamacpp_pipeline.stages.base import Frozen
from llamacpp_pipeline.stages.perplexity import PerplexityParams
from llamacpp_pipeline.units import Estimate


class KldParams(PerplexityParams):
    """The cut is the reference's; it is passed on and compared with what the tool reports."""


class KldResult(Frozen):
    """Everything llama-perplexity reports. KLD in nats; probabilities in percent.

    Against itself a model gives about -0.000000: the logits file holds 16-bit values.
    """

    n_ctx: PositiveInt
    n_chunks: PositiveInt
    ppl: Estimate
    reference_ppl: Estimate
    ppl_correlation: float  # Cor(ln PPL(Q), ln PPL(reference)), percent
    ln_ppl_ratio: Estimate
    ppl_ratio: Estimate
    ppl_difference: Estimate
    mean_kld: Estimate
    max_kld: float
    kld_percentiles: dict[str, float]  # "99.9", "99.0", ... "0.1"; "50.0" is the median
    min_kld: float
    mean_delta_p: Estimate
    max_delta_p: float
    delta_p_percentiles: dict[str, float]
    min_delta_p: float
    rms_delta_p: Estimate
    same_top_p: Estimate
