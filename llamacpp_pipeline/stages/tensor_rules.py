"""Which tensor gets which type by rule, as llama-quantize decides it (src/llama-quant.cpp)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from llamacpp_pipeline.errors import InputError
from llamacpp_pipeline.stages.gguf_facts import GgufFacts, GgufTensor
from llamacpp_pipeline.stages.quant_types import (
    FTYPES_NEEDING_IMATRIX,
    TENSOR_TYPES_NEEDING_IMATRIX,
)

OUTPUT = "output.weight"
EMBEDDINGS = frozenset({"token_embd.weight", "per_layer_token_embd.weight"})
# Parts of the names of tensors that llama-quantize leaves as they are.
KEPT = (
    *("_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup", "laurel"),
    *("per_layer_model_proj", "ssm_conv1d", "shortconv.conv.weight", "indexer.k_proj.weight"),
    *("indexer.q_proj.weight", "time_mix_first.weight", "time_mix_w0.weight"),
    *("time_mix_w1.weight", "time_mix_w2.weight", "time_mix_v0.weight", "time_mix_v1.weight"),
    *("time_mix_v2.weight", "time_mix_a0.weight", "time_mix_a1.weight", "time_mix_a2.weight"),
    *("time_mix_g1.weight", "time_mix_g2.weight", "time_mix_decay_w1.weight"),
    *("time_mix_decay_w2.weight", "time_mix_lerp_fused.weight", "attn_rel_b.weight"),
    *("position_embd", "token_types.weight", "sam.pos_embd", "sam.neck.", "sam.net_", ".rel_pos"),
    *(".patch_embd", ".patch_merger", "a.rvq.codebook", "mm.a.code_embd"),
)
NAMES_SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Overrides, in the order in which they are tried."""

    by_pattern: tuple[tuple[str, str], ...] = ()
    output: str | None = None  # --output-tensor-type
    token_embedding: str | None = None  # --token-embedding-type

    def deciding(self, name: str) -> tuple[str, str] | None:
        """The pattern that decides a tensor, and its type; a flag of its own comes first."""
        if (name == OUTPUT and self.output) or (name in EMBEDDINGS and self.token_embedding):
            return None
        return next((rule for rule in self.by_pattern if re.search(rule[0], name)), None)


def quantizable(tensor: GgufTensor) -> bool:
    """Whether llama-quantize may change this tensor's type at all."""
    is_matrix = sum(extent > 1 for extent in tensor.shape[1:]) > 0
    return (
        is_matrix
        and tensor.name.endswith("weight")
        and not any(part in tensor.name for part in KEPT)
    )


def quantized_types(facts: GgufFacts) -> dict[str, str]:
    """The ggml type of each tensor that llama-quantize may change, in the file's order."""
    return {tensor.name: tensor.type for tensor in facts.tensors if quantizable(tensor)}


def refuse_idle_rules(rules: Rules, model: GgufFacts) -> None:
    """Refuse a pattern that would decide nothing.

    Raises:
        InputError: naming the pattern and the nearest tensors.

    """
    for pattern, _ in rules.by_pattern:
        named = [tensor for tensor in model.tensors if re.search(pattern, tensor.name)]
        if not named:
            raise InputError(
                f"tensor_types: the pattern {pattern!r} matches no tensor of {model.path.name}",
                evidence=[f"near it: {name}" for name in nearest_names(pattern, model)],
                hint="correct the pattern, or leave it out",
            )
        changeable = [tensor for tensor in named if quantizable(tensor)]
        if not changeable:
            raise InputError(
                f"tensor_types: the pattern {pattern!r} matches only tensors that llama-quantize"
                " never changes (norms, vectors, small ones)",
                evidence=[tensor.name for tensor in named[:NAMES_SHOWN]],
                hint="leave the pattern out",
            )
        if not any(decides(rules, pattern, tensor) for tensor in changeable):
            raise InputError(
                f"tensor_types: the pattern {pattern!r} decides nothing: an earlier pattern, or"
                " output_tensor_type or token_embedding_type, takes all its tensors",
                evidence=[tensor.name for tensor in changeable[:NAMES_SHOWN]],
                hint="put it before the more general pattern, or leave it out",
            )


def decides(rules: Rules, pattern: str, tensor: GgufTensor) -> bool:
    """Whether that pattern is the one that gives this tensor its type."""
    rule = rules.deciding(tensor.name)
    return rule is not None and rule[0] == pattern


def nearest_names(pattern: str, model: GgufFacts) -> list[str]:
    """Tensor names that look like what the pattern asks for, one per family of layers."""
    plain = re.sub(r"\\\.", ".", pattern)
    plain = re.sub(r"blk\W*(?:\d+|\\d|\[[^]]*\])\W*\.", "", plain)
    plain = re.sub(r"\\[a-z]|[\^$*+?()\[\]{}|\\]", "", plain).strip(".")
    families: dict[str, str] = {}
    for tensor in model.tensors:
        families.setdefault(re.sub(r"^blk\.\d+\.", "", tensor.name), tensor.name)
    close = difflib.get_close_matches(plain, families, n=NAMES_SHOWN, cutoff=0.4)
    return [families[name] for name in close]


def refuse_missing_imatrix(rules: Rules, ftype: str, pure: bool, model: GgufFacts) -> None:  # noqa: FBT001
    """Refuse types that cannot be made without an imatrix, before any time is spent.

    Raises:
        InputError: naming the type and the tensors.

    """
    mixture_needs = ftype in FTYPES_NEEDING_IMATRIX and not (pure and ftype == "IQ3_XS")
    offending: list[str] = []
    for tensor in model.tensors:
        if quantizable(tensor) and tensor.name != OUTPUT and tensor.name not in EMBEDDINGS:
            rule = rules.deciding(tensor.name)
            needs = mixture_needs if rule is None else rule[1] in TENSOR_TYPES_NEEDING_IMATRIX
            if needs:
                asked = ftype if rule is None else rule[1]
                offending.append(f"{tensor.name}: {asked}")
    if offending:
        raise no_imatrix(ftype, offending)


def no_imatrix(ftype: str, offending: Sequence[str]) -> InputError:
    """The error that names the tensors and the ways out."""
    more = len(offending) - NAMES_SHOWN
    return InputError(
        f"{ftype} as asked for cannot be made without an imatrix",
        evidence=[*offending[:NAMES_SHOWN], *([f"and {more} more"] if more > 0 else [])],
        hint="add `calibration:` (or `imatrix:`) to the config, or choose a larger type",
    )
