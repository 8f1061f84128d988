"""What memory a file needs at a context: its weights, KV cache or state, and buffers."""

from __future__ import annotations

from pydantic import NonNegativeInt, PositiveInt

from llamacpp_pipeline.plan.targets import contexts
from llamacpp_pipeline.results.documented import Documented
from llamacpp_pipeline.results.run import RunRecords
from llamacpp_pipeline.stages.memory import MemoryResult


class MemoryNeed(Documented):
    """Memory at one context, by llama.cpp's own estimate; devices and host together."""

    n_ctx: PositiveInt
    """Tokens of context."""
    kv_type: str
    """Type of the KV cache."""
    weights_bytes: PositiveInt
    """Bytes of the file's tensors."""
    context_bytes: NonNegativeInt
    """KV cache and recurrent state, rounded up to MiB."""
    compute_bytes: NonNegativeInt
    """Buffers of the computation, rounded up to MiB."""
    total_bytes: PositiveInt
    """Their sum."""


def memory_needs(run: RunRecords, tensor_bytes: int) -> tuple[MemoryNeed, ...]:
    """What a file of so many bytes of tensors needs at every context that was asked about."""
    found = (run.result(key, MemoryResult) for key in contexts(run.config))
    return tuple(_need(result, tensor_bytes) for result in found if result is not None)


def _need(result: MemoryResult, tensor_bytes: int) -> MemoryNeed:
    return MemoryNeed(
        n_ctx=result.n_ctx,
        kv_type=result.kv_type,
        weights_bytes=tensor_bytes,
        context_bytes=result.context_bytes,
        compute_bytes=result.compute_bytes,
        total_bytes=tensor_bytes + result.context_bytes + result.compute_bytes,
    )
