"""A document with a file whose types were chosen, as a planner could have chosen them."""

from __future__ import annotations

from llamacpp_pipeline.results.allocation import AllocatedTensor, Allocation
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.memory import MemoryNeed

BITS = {"iq2_xs": 2.3125, "q3_K": 3.4375, "q4_K": 4.5, "q5_K": 5.5, "q6_K": 6.5625, "q8_0": 8.5}
LINEAR = ("attn_qkv", "attn_gate", "ssm_alpha", "ssm_beta", "ssm_out")
FULL = ("attn_q", "attn_k", "attn_v", "attn_output")
FFN = ("ffn_gate", "ffn_up", "ffn_down")


def allocated(document: ResultsDocument, *, n_layers: int = 32) -> ResultsDocument:
    """The document with its first variant's types chosen: every fourth layer has attention."""
    kinds = list(BITS)
    tensors = [_tensor("token_embd", None, "q6_K"), _tensor("output", None, "q8_0")]
    for layer in range(n_layers):
        for at, role in enumerate((*(FULL if layer % 4 == 3 else LINEAR), *FFN)):
            tensors.append(_tensor(role, layer, kinds[(layer * 7 + at * 3) % len(kinds)]))
    chosen = Allocation(
        way="bpw", asked_bpw=4.5, reached_bpw=4.4987, reached_bytes=5_000_000, min_bytes=3_000_000,
        max_bytes=9_000_000, objective=0.0123, dual_bound=0.0122, gap=0.008, optimal=False,
        alpha_sources=("prior",), type_set="default", measured=300, reused=0,
        tensors=tuple(tensors),
    )  # fmt: skip
    first, *others = document.variants
    need = MemoryNeed(
        n_ctx=32768, kv_type="q8_0", weights_bytes=5_000_000, context_bytes=2**30,
        compute_bytes=2**28, total_bytes=5_000_000 + 2**30 + 2**28,
    )  # fmt: skip
    first = first.model_copy(update={"allocation": chosen, "memory": (need,)})
    return document.model_copy(update={"variants": (first, *others)})


def _tensor(role: str, layer: int | None, kind: str) -> AllocatedTensor:
    name = f"{role}.weight" if layer is None else f"blk.{layer}.{role}.weight"
    return AllocatedTensor(
        name=name, layer=layer, role=role, status="chosen", type=kind, bpw=BITS[kind],
        elements=1_000_000, alpha=0.01 * (1 + len(name)) * (1 + (layer or 0) % 5), error=0.0001,
    )  # fmt: skip
