"""What a context takes in memory besides the weights, as llama-fit-params estimates it.

The tool reads the header of a GGUF and lays out what llama.cpp would allocate; no weights are
loaded. Of a model it is the KV cache or the recurrent state, which no quantization of the weights
changes, and the buffers of the computation. It prints whole MiB, rounded down; they are rounded
up here, so that what is planned with them does not fall short.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, get_args

from pydantic import NonNegativeInt, PositiveInt

from llamacpp_pipeline.errors import InputError, PipelineError, UnreadableOutputError
from llamacpp_pipeline.stages.base import Argv, Frozen, Paths, ToolStage
from llamacpp_pipeline.stages.llama_failures import Known, explain_by
from llamacpp_pipeline.stages.llama_failures import explain as explain_any
from llamacpp_pipeline.stages.llama_log import complaints
from llamacpp_pipeline.stages.tool_flags import placement_flags

TOOL = "llama-fit-params"
MIB = 2**20
KvType = Literal["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"]
KV_TYPES = get_args(KvType)
MOST_CONTEXT = 2**31 - 1  # the tool reads an int
DEVICE = re.compile(
    r"^(?P<name>\S+) (?P<model>\d+) (?P<context>\d+) (?P<compute>\d+) *$", re.MULTILINE
)
ANNOUNCED = "printing estimated memory in MiB"
HOST = "Host"
CAUSES = (
    Known(
        line=re.compile(r"what\(\):\s+failed to create llama_context from model"),
        message="llama.cpp cannot make a context of that size and cache type",
        hint="ask for another kv_type (f16 always works) or a smaller context",
    ),
)


class MemoryParams(Frozen):
    """The context that is asked about, with llama.cpp's own batch sizes."""

    n_ctx: PositiveInt
    kv_type: KvType = "f16"
    n_batch: PositiveInt = 2048
    n_ubatch: PositiveInt = 512


class DeviceMemory(Frozen):
    """One device's part, or the host's."""

    name: str
    weights_bytes: NonNegativeInt
    context_bytes: NonNegativeInt
    compute_bytes: NonNegativeInt


class MemoryResult(Frozen):
    n_ctx: PositiveInt
    kv_type: KvType
    context_bytes: NonNegativeInt  # KV cache and recurrent state
    compute_bytes: NonNegativeInt  # buffers of the computation
    devices: tuple[DeviceMemory, ...]  # as printed, rounded down; the host comes last


def argv(params: MemoryParams, paths: Paths) -> Argv:
    if params.n_ctx > MOST_CONTEXT:
        raise InputError(
            f"a context of {params.n_ctx} tokens is more than llama.cpp can count",
            hint="ask for a smaller one in `fit.context` or `memory.contexts`",
        )
    return (
        TOOL,
        *("--model", str(paths["model"])),
        *("--fit-print", "on"),
        *("--ctx-size", str(params.n_ctx)),
        *("--cache-type-k", params.kv_type, "--cache-type-v", params.kv_type),
        *("--batch-size", str(params.n_batch), "--ubatch-size", str(params.n_ubatch)),
        *("--flash-attn", "auto"),
        *("--parallel", "1"),
    )


def parse(log: str, paths: Paths) -> MemoryResult:
    del paths
    _, _, printed = log.partition(ANNOUNCED)
    found = [
        DeviceMemory(
            name=line["name"],
            weights_bytes=int(line["model"]) * MIB,
            context_bytes=int(line["context"]) * MIB,
            compute_bytes=int(line["compute"]) * MIB,
        )
        for line in DEVICE.finditer(printed)
    ]
    if not found or found[-1].name != HOST:
        raise explain(log) or UnreadableOutputError(
            TOOL, "a line of memory for each device and the host", complaints(log)
        )
    return MemoryResult(
        n_ctx=1,  # what was asked for, only the parameters tell: see complete()
        kv_type="f16",
        context_bytes=rounded_up(device.context_bytes for device in found),
        compute_bytes=rounded_up(device.compute_bytes for device in found),
        devices=tuple(found),
    )


def rounded_up(parts: Iterable[int]) -> int:
    """The sum of numbers that were each rounded down to a MiB: at most one more for each."""
    return sum(part + MIB for part in parts)


def complete(params: MemoryParams, result: MemoryResult, paths: Paths) -> MemoryResult:
    """The result with the context it is of."""
    del paths
    return result.model_copy(update={"n_ctx": params.n_ctx, "kv_type": params.kv_type})


def explain(log: str) -> PipelineError | None:
    """The cause and the remedy, where the log tells a cause that is known."""
    return explain_by(CAUSES, log) or explain_any(log)


STAGE = ToolStage(
    name="memory",
    version=1,  # bump when argv or parse changes meaning
    tool=TOOL,
    made_by="binary",
    inputs=frozenset({"model"}),
    outputs={},
    params=MemoryParams,
    result=MemoryResult,
    lane="host",
    argv=argv,
    parse=parse,
    placement=placement_flags,
    complete=complete,
    explain=explain,
)
