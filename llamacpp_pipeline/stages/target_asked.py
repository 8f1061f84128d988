"""What a size target asks of llama-quantize; what depends on another step is read from that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeInt, PositiveInt

from llamacpp_pipeline.errors import InputError
from llamacpp_pipeline.stages.base import Frozen, Paths
from llamacpp_pipeline.stages.gguf_facts import GgufFacts, read_gguf
from llamacpp_pipeline.stages.quality import KldBudget, kld_budget
from llamacpp_pipeline.units import size_text

if TYPE_CHECKING:
    from llamacpp_pipeline.stages.quantize_target import TargetParams


class MemoryShare(Frozen):
    """How a memory budget was made up; `stages/memory.py` has the numbers."""

    memory_bytes: PositiveInt
    context_bytes: NonNegativeInt
    compute_bytes: NonNegativeInt


class Asked(Frozen):
    """What was asked of the tool."""

    kind: Literal["bpw", "size", "fit", "match", "kld"]
    bpw: float | None = None  # --target-bpw
    size_bytes: PositiveInt | None = None  # --target-size
    fit: MemoryShare | None = None
    kld: KldBudget | None = None


def asked_of(params: TargetParams, paths: Paths) -> Asked:
    """What to ask for; a target that depends on another step is read from what that left.

    Raises:
        InputError: where nothing is left for the weights.

    """
    if params.bpw is not None:
        return Asked(kind="bpw", bpw=params.bpw)
    if params.size_bytes is not None:
        return Asked(kind="size", size_bytes=params.size_bytes)
    if params.memory_bytes is not None:
        return left_of(params.memory_bytes, paths["memory"])
    if params.kld is not None:
        return enough_for(params, params.kld, paths)
    return Asked(kind="match", bpw=bpw_of(paths["match"]))


def enough_for(params: TargetParams, kld: float, paths: Paths) -> Asked:
    """The bits per weight that a mean KLD takes.

    Raises:
        InputError: where it cannot be reached.

    """
    model = read_gguf(paths["model"])
    budget = kld_budget(kld, rules=params, report=paths["sensitivities"], model=model)
    return Asked(kind="kld", bpw=bits_for(budget.tensor_bytes, model), kld=budget)


def bpw_of(file: Path) -> float:
    """Bits per weight of a GGUF."""
    facts = read_gguf(file)
    return bits_for(facts.tensor_bytes, facts)


def bits_for(n_bytes: int, model: GgufFacts) -> float:
    """Bits per weight, half a byte up: the tool rounds the bytes they make down."""
    return 8 * (n_bytes + 0.5) / model.n_elements


def left_of(memory_bytes: int, report: Path) -> Asked:
    """What a memory budget leaves for the file, by the memory step's record.

    Raises:
        InputError: where that is nothing.

    """
    needed = json.loads(report.read_bytes())["result"]
    fit = MemoryShare(
        memory_bytes=memory_bytes,
        context_bytes=needed["context_bytes"],
        compute_bytes=needed["compute_bytes"],
    )
    rest = memory_bytes - fit.context_bytes - fit.compute_bytes
    if rest <= 0:
        raise InputError(
            f"a memory of {size_text(memory_bytes)} leaves nothing for the weights",
            evidence=(
                f"KV cache and state: {size_text(fit.context_bytes)}",
                f"compute buffers: {size_text(fit.compute_bytes)}",
            ),
            hint="ask for more memory or less context in `fit`, or for a smaller kv_type",
        )
    return Asked(kind="fit", size_bytes=rest, fit=fit)
