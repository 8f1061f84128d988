"""How the types of a file by size were validated and corrected, before the file was made."""

from __future__ import annotations

from typing import Literal

from pydantic import FiniteFloat, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from llamacpp_pipeline.results.documented import Documented
from llamacpp_pipeline.results.run import RunRecords
from llamacpp_pipeline.stages.refine_record import RefineResult
from llamacpp_pipeline.units import Estimate


class TriedMix(Documented):
    """Types for the whole model, put into it in memory."""

    name: str
    """What its sensitivities are: prior (weights and imatrix alone), measured (one tensor at a time
    in the unquantized model), or round N (measured again at the solution before it)."""
    bpw: PositiveFloat
    """Bits per weight."""
    n_changed: NonNegativeInt
    """Tensors of another type than in the mix before."""
    predicted: NonNegativeFloat
    """Mean KLD predicted for the probe text, in nats."""
    on_probe: Estimate
    """Mean KLD measured there."""
    kld: Estimate
    """Mean KLD on the validation text, in nats."""
    kld_p999: FiniteFloat
    """99.9 % percentile of the KLD there."""
    same_top: NonNegativeFloat
    """Percent of positions there whose most probable token is the reference's."""
    to_kept: Estimate | None = None
    """Its mean KLD minus that of the mix kept, error over the same chunks; absent of that one."""


class RefinementRound(Documented):
    """Values measured with the solution so far in place of the rest of the model."""

    n_steps: NonNegativeInt
    """Close decisions, single tensors at other types, that were measured."""
    n_missing: NonNegativeInt
    """Those for which the time was too short."""
    n_chunks: PositiveInt
    """Chunks each was measured on."""
    agreement: FiniteFloat | None = None
    """What was measured over what single divergences had led to expect, over all steps."""
    n_moved: NonNegativeInt
    """Those that differ from the expectation by over two standard errors."""
    gain: Estimate | None = None
    """Mean KLD before minus after on the validation text; absent where no type changed."""


class Refinement(Documented):
    """What was tried for one file, and which mix it has (docs/allocation.md)."""

    kept: str
    """The mix that the file has: of least mean KLD on the validation text."""
    stopped: Literal["rounds", "nothing-close", "same-types", "within-error", "time"]
    """Why no further round was made."""
    validation_digest: str | None
    """What the validation text is known by; null: the second half of the probe text."""
    n_ctx: PositiveInt
    """Tokens per chunk."""
    n_chunks: PositiveInt
    """Chunks of the validation text."""
    n_measurements: PositiveInt
    """Measurements on both texts."""
    seconds: NonNegativeFloat
    """What they took."""
    mixes: tuple[TriedMix, ...]
    """All that were tried, in that order."""
    rounds: tuple[RefinementRound, ...]
    """What was measured between them."""


def refinement(run: RunRecords, label: str) -> Refinement | None:
    """That of a variant; None where its types were taken as they came."""
    key = f"refine/{label}"
    found = run.result(key, RefineResult)
    if found is None:
        return None
    text = run.needed(key).inputs.get("validation")
    said = found.model_dump(exclude={"held_out", "mixes", "rounds", "computed_tokens"})
    return Refinement(
        **said,
        validation_digest=None if text is None else text.digest,
        mixes=tuple(TriedMix(**mix.model_dump()) for mix in found.mixes),
        rounds=tuple(RefinementRound(**one.model_dump()) for one in found.rounds),
    )
