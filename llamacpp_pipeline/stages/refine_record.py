"""What a refinement did: the mixes it tried, what each diverges on the validation text, and why."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Field,
    FiniteFloat,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from llamacpp_pipeline.stages.base import Frozen
from llamacpp_pipeline.units import Estimate

PRIOR, MEASURED = "prior", "measured"  # what every refinement starts from

Stopped = Literal["rounds", "nothing-close", "same-types", "within-error", "time"]


class Mix(Frozen):
    """Types for the whole model, chosen by some sensitivities."""

    name: str  # prior, measured, round 1, round 2, ...
    bpw: PositiveFloat
    n_changed: NonNegativeInt  # tensors that have another type than in the mix before
    predicted: NonNegativeFloat  # nats, on the probe text: the sum that was minimised
    on_probe: Estimate  # mean KLD there, measured
    kld: Estimate  # mean over the validation text, nats; error over positions
    kld_p999: FiniteFloat
    same_top: NonNegativeFloat  # percent
    to_kept: Estimate | None = None  # its mean KLD minus the kept one's, error over chunks


class Round(Frozen):
    """Marginal values measured with the solution before it as background."""

    n_steps: NonNegativeInt  # close decisions that were measured
    n_missing: NonNegativeInt  # for which there was no time
    n_chunks: PositiveInt
    agreement: FiniteFloat | None  # measured over assumed, over all steps
    n_moved: NonNegativeInt  # steps whose measured value is over two errors from the assumed one
    gain: Estimate | None = None  # mean KLD before minus after, validation text; None: same types


class RefineResult(Frozen):
    """Everything a refinement found."""

    kept: str
    stopped: Stopped
    mixes: Annotated[tuple[Mix, ...], Field(min_length=2)]
    rounds: tuple[Round, ...]
    held_out: bool  # the validation text is the second half of the probe text
    n_ctx: PositiveInt
    n_chunks: PositiveInt  # of the validation text
    n_measurements: PositiveInt  # on both texts, floors included
    seconds: NonNegativeFloat  # that they took
    computed_tokens: NonNegativeInt = 0  # the reference's own passes included
