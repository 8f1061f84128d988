"""What probing will take, and what would make it shorter."""

from __future__ import annotations

import math
from collections.abc import Iterator

from llamacpp_pipeline.plan.sources import ModelHints
from llamacpp_pipeline.stages.probe import ProbeParams
from llamacpp_pipeline.stages.refine import RefineParams
from llamacpp_pipeline.units import duration_text

MATRICES = 8  # about, of a layer that can be quantized; and two outside the layers
EXTRA = 2  # passes besides those of tensors: the reference's own, and the floor's
LONG = 30.0  # seconds; who waits less needs no advice
SHARE = 0.5  # of what the other steps take: a probe beyond that is long
BANDS = 4
FEWEST_CHUNKS = 8  # advised: an error over chunks needs some
MINUTE = 60.0
CLOSE = 0.7  # steps that are close at a solution, for each tensor


def passes(params: ProbeParams, hints: ModelHints) -> int | None:
    """How often a probe computes its text: the reference, the floor, and each measurement."""
    groups = measured_together(params.bands, hints)
    return None if groups is None else EXTRA + len(params.types) * groups


def refined_tokens(params: RefineParams, hints: ModelHints) -> int | None:
    """About how many tokens a refinement of one round computes; more only where that one gains.

    Each text has passes of the reference, the floor, and two mixes, then the reference again and a
    third; the round has the reference, the floor, and the steps that are close.
    """
    n_tensors = measured_together(None, hints)
    if n_tensors is None or params.n_chunks is None:
        return None
    whole = (EXTRA + 2 + 1 + 1) * (params.n_chunks + params.validation_chunks)
    close = (EXTRA + round(CLOSE * n_tensors)) * 2 * params.n_chunks
    return params.n_ctx * (whole + close)


def measured_together(bands: int | None, hints: ModelHints) -> int | None:
    """How many tensors, or groups of a role's in a range of layers, there are to measure."""
    if hints.matrices:
        return sum(min(n, bands or n) for n in hints.matrices.values())
    layers = bands or hints.n_layers
    return None if layers is None else MATRICES * layers + 2


def within_budget(seconds: float, params: ProbeParams, hints: ModelHints) -> float:
    """What is left of a prediction where a budget ends the probe: no measurement starts later."""
    n = passes(params, hints)
    if params.minutes is None or n is None:
        return seconds
    return min(seconds, params.minutes * MINUTE + (EXTRA + 1) * seconds / n)


def advice(
    params: ProbeParams, hints: ModelHints, *, seconds: float, others: float, n_chunks: int | None
) -> Iterator[str]:
    """What shortens a probe that takes long beside the other steps, and to what; else nothing.

    Args:
        params: Of the probe.
        hints: Of the model.
        seconds: Predicted for it.
        others: Predicted for all other steps.
        n_chunks: That it will measure.

    """
    n = passes(params, hints)
    if n is None or seconds < LONG or seconds <= SHARE * others:
        return
    minutes = max(1, round(SHARE * others / MINUTE))
    if params.minutes is None and minutes * MINUTE < seconds:
        n_within = math.floor(minutes * MINUTE * n / seconds)
        yield (
            f"`sensitivity.minutes: {minutes}` ends it then, after about {n_within} of {n - EXTRA}"
            " measurements; the prior stands for the rest"
        )
    fewer = passes(params.model_copy(update={"bands": BANDS}), hints)
    if params.bands is None and fewer is not None and fewer < n:
        yield f"`sensitivity.bands: {BANDS}` measures tensors together: {took(seconds * fewer / n)}"
    if n_chunks is not None and n_chunks >= 2 * FEWEST_CHUNKS:
        half = n_chunks // 2
        yield (
            f"`sensitivity.n_chunks: {half}` measures with larger errors (by"
            f" {math.sqrt(n_chunks / half):.1f}): {took(seconds * half / n_chunks)}"
        )


def took(seconds: float) -> str:
    return f"about {duration_text(seconds)}"
