"""How the bits of a file were given out: what was asked for, what was reached, tensor by tensor."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from llamacpp_pipeline.config.variants import VariantConfig
from llamacpp_pipeline.results.documented import Documented
from llamacpp_pipeline.results.refinement import Refinement
from llamacpp_pipeline.stages.quantize_target import TargetParams, TargetResult
from llamacpp_pipeline.stages.target_asked import Asked
from llamacpp_pipeline.stages.target_plan import PlannedTensor, Status
from llamacpp_pipeline.units import bits_per_weight


class FitBudget(Documented):
    """How a memory budget was made up: what is left goes to the file."""

    memory_bytes: PositiveInt
    """The memory asked for."""
    n_ctx: PositiveInt
    """Tokens of context."""
    kv_type: str
    """Type of the KV cache."""
    context_bytes: NonNegativeInt
    """KV cache and recurrent state, as llama.cpp estimates them, rounded up to MiB."""
    compute_bytes: NonNegativeInt
    """Buffers of the computation, likewise."""
    file_bytes: PositiveInt
    """What that leaves for the file."""


class KldAsked(Documented):
    """A file asked for by its mean KLD: what that takes, by the measured sensitivities."""

    asked: PositiveFloat
    """Mean KLD in nats, on the probe text."""
    predicted: float
    """Of the smallest mix that reaches it: the sum of the tensors' single divergences."""
    tensor_bytes: PositiveInt
    """Of that mix; no more are given to the file's tensors."""
    least_bytes: PositiveInt
    """No mix of the types that were allowed and have a known divergence reaches it with fewer."""
    n_assumed: NonNegativeInt
    """Tensors of which nothing was measured: the prior stands for them, scaled to the others."""


class AllocatedTensor(Documented):
    """One tensor that was quantized or pinned."""

    name: str
    """Its name."""
    layer: NonNegativeInt | None = None
    """Number of its block; absent outside the blocks."""
    role: str
    """Its name without block and suffix, such as ffn_down."""
    status: Status
    """chosen by the planner, or pinned by the recipe."""
    type: str
    """ggml type it has."""
    bpw: PositiveFloat
    """Bits per weight of that tensor."""
    elements: PositiveInt
    """Weights in it."""
    alpha: float | None = None
    """Sensitivity: divergence in nats per unit of relative error energy of its output."""
    error: float | None = None
    """Its part of the objective, in nats."""


class Allocation(Documented):
    """A file whose types were chosen for a size (docs/target-bpw.md has the formulas)."""

    way: Literal["bpw", "size", "fit", "match", "kld"]
    """What the size was asked for by."""
    asked_bpw: PositiveFloat | None = None
    """Bits per weight asked for; of a match, those of the file matched; of a KLD, what it takes."""
    asked_bytes: PositiveInt | None = None
    """Bytes of the file asked for, or left for it."""
    matched: str | None = None
    """The variant or reference whose bits per weight were taken."""
    fit: FitBudget | None = None
    """How a memory budget was made up."""
    kld: KldAsked | None = None
    """The mean KLD that was asked for, and what it takes."""
    reached_bpw: PositiveFloat
    """Bits per weight of all tensors of the file made."""
    reached_bytes: PositiveInt
    """Bytes of the file made."""
    min_bytes: PositiveInt
    """The smallest that could have been asked for: of tensors, or of the file with asked_bytes."""
    max_bytes: PositiveInt
    """The largest."""
    objective: NonNegativeFloat
    """Divergence predicted for the file, in nats: the sum of the tensors' errors."""
    dual_bound: float
    """No choice among these types has a smaller objective."""
    gap: float
    """(objective - dual_bound) / objective."""
    optimal: bool
    """Whether no better choice exists for the errors measured."""
    alpha_sources: tuple[str, ...]
    """Where the sensitivities come from: prior (weights and imatrix alone), given, or both."""
    type_set: str
    """Types that were candidates."""
    same_type: tuple[str, ...] = ()
    """Patterns whose tensors share a type in each layer."""
    min_types: dict[str, str] = {}
    """Regex on the tensor name to the smallest type allowed."""
    max_types: dict[str, str] = {}
    """Regex on the tensor name to the largest type allowed."""
    refinement: Refinement | None = None
    """What was tried before the file was made; absent where types were taken as they came."""
    measured: NonNegativeInt
    """Errors measured for this file."""
    reused: NonNegativeInt
    """Errors that earlier files of the model had measured."""
    tensors: tuple[AllocatedTensor, ...]
    """Every tensor chosen or pinned, in the file's order."""


def allocation(
    variant: VariantConfig,
    params: TargetParams,
    result: TargetResult,
    *,
    tried: Refinement | None = None,
) -> Allocation:
    """What the results say of a file by size."""
    shared = set(Allocation.model_fields)
    return Allocation(
        **params.model_dump(include=shared - {"kld"}),
        **result.model_dump(include=shared - {"tensors", "fit"}),
        way=result.asked.kind,
        asked_bpw=result.asked.bpw,
        asked_bytes=result.asked.size_bytes,
        matched=variant.match,
        fit=_fit(variant, result.asked),
        refinement=tried,
        kld=_kld(result.asked),
        reached_bpw=result.bpw,
        reached_bytes=result.file_bytes,
        tensors=tuple(_tensor(tensor) for tensor in result.tensors),
    )


def _fit(variant: VariantConfig, asked: Asked) -> FitBudget | None:
    if variant.fit is None or asked.fit is None or asked.size_bytes is None:
        return None
    return FitBudget(
        **asked.fit.model_dump(),
        n_ctx=variant.fit.context,
        kv_type=variant.fit.kv_type,
        file_bytes=asked.size_bytes,
    )


def _kld(asked: Asked) -> KldAsked | None:
    if asked.kld is None:
        return None
    return KldAsked(asked=asked.kld.kld, **asked.kld.model_dump(exclude={"kld"}))


def _tensor(tensor: PlannedTensor) -> AllocatedTensor:
    return AllocatedTensor(
        **tensor.model_dump(exclude={"bytes"}),
        layer=tensor.layer,
        role=tensor.role,
        bpw=bits_per_weight(size_bytes=tensor.bytes, n_elements=tensor.elements),
    )
