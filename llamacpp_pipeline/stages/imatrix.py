"""The importance matrix: mean squared activations per input channel, from calibration text."""

from __future__ import annotations

import re

import numpy as np
from pydantic import PositiveInt

from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages.base import Argv, Frozen, Paths, ProgressPattern, ToolStage
from llamacpp_pipeline.stages.gguf_facts import GgufFacts, GgufTensor, read_gguf
from llamacpp_pipeline.stages.imatrix_facts import (
    ActivationStatistics,
    read_statistics,
    refuse_other_tensors,
)
from llamacpp_pipeline.stages.llama_failures import explain, refuse_error_records, without
from llamacpp_pipeline.stages.perplexity import FINAL, refuse_empty
from llamacpp_pipeline.stages.tool_flags import cut_flags, placement_flags
from llamacpp_pipeline.units import Estimate

TOOL = "llama-imatrix"
SHAPE = re.compile(r"computing over (?P<n_chunks>\d+) chunks, n_ctx=(?P<n_ctx>\d+)")
NO_PPL = "Unexpected negative standard deviation"  # of a text the model knows by heart
NOT_A_NUMBER = re.compile(r"\[\d+\]-?nan,")
SUMS, COUNTS = ".in_sum2", ".counts"
NEVER = "1000000000"  # chunks between saves: one save, at the end, when everything is in


class ImatrixParams(Frozen):
    """How the calibration text is cut."""

    n_ctx: PositiveInt = 512
    n_chunks: PositiveInt | None = None
    n_batch: PositiveInt = 2048
    n_ubatch: PositiveInt = 512
    process_output: bool = False  # collect for output.weight too
    parse_special: bool = False


class ImatrixResult(Frozen):
    n_entries: PositiveInt
    n_chunks: PositiveInt
    n_ctx: PositiveInt
    ppl: Estimate | None  # of the calibration text, where the tool printed it
    partial: tuple[str, ...]  # expert tensors that some experts never fed
    statistics: ActivationStatistics


def argv(params: ImatrixParams, paths: Paths) -> Argv:
    read_gguf(paths["model"])
    refuse_empty(paths["corpus"])
    return (
        TOOL,
        *("--model", str(paths["model"])),
        *("--file", str(paths["corpus"]), "--no-escape"),  # else \n in it becomes a line feed
        *("--output", str(paths["imatrix"])),
        *("--output-format", "gguf"),
        *("--output-frequency", NEVER),
        *("--statistics-file", str(paths["statistics"])),
        *cut_flags(params, flash_attn="auto"),
        *(("--process-output",) if params.process_output else ()),
        *(("--parse-special",) if params.parse_special else ()),
    )


def parse(log: str, paths: Paths) -> ImatrixResult:
    shape, final = SHAPE.search(log), FINAL.search(log)
    if shape is None or (final is None and (NO_PPL not in log or NOT_A_NUMBER.search(log))):
        raise without(TOOL, "'Final estimate: PPL = ...'", log)
    refuse_error_records(TOOL, log)
    facts = written(paths)
    sums, counts = entries(facts)
    n_chunks, n_ctx = facts.number("imatrix.chunk_count"), facts.number("imatrix.chunk_size")
    if (n_chunks, n_ctx) != (int(shape["n_chunks"]), int(shape["n_ctx"])):
        evidence = (
            f"the file: {n_chunks} chunks of {n_ctx}",
            f"the log: {shape['n_chunks']} chunks of {shape['n_ctx']}",
        )
        raise UnreadableOutputError(TOOL, "an imatrix of the chunks it reports", evidence)
    statistics = read_statistics(paths["statistics"], tool=TOOL)
    refuse_other_tensors(statistics, [tensor.name.removesuffix(SUMS) for tensor in sums], tool=TOOL)
    return ImatrixResult(
        n_entries=len(sums),
        n_chunks=n_chunks,
        n_ctx=n_ctx,
        ppl=final and Estimate(value=float(final["value"]), stderr=float(final["stderr"])),
        partial=partial(facts, counts),
        statistics=statistics,
    )


def complete(params: ImatrixParams, result: ImatrixResult, paths: Paths) -> ImatrixResult:
    """The result, once it is known to be of the cut that was asked for."""
    del paths
    if result.n_ctx != params.n_ctx or result.n_chunks > (params.n_chunks or result.n_chunks):
        evidence = (f"it reports n_ctx {result.n_ctx}, {result.n_chunks} chunks",)
        asked = f"n_ctx {params.n_ctx}, {params.n_chunks or 'all'} chunks"
        raise UnreadableOutputError(TOOL, f"an imatrix for {asked}", evidence)
    return result


def written(paths: Paths) -> GgufFacts:
    """The file, opened again: a failed write does not change the tool's exit code.

    Raises:
        UnreadableOutputError: where it is not a whole imatrix.

    """
    try:
        facts = read_gguf(paths["imatrix"])
        kind = facts.text("general.type")
    except InputError as error:
        raise UnreadableOutputError(
            TOOL, "a readable imatrix file", (error.message, *error.evidence)
        ) from error
    if kind != "imatrix":
        raise UnreadableOutputError(TOOL, "an imatrix file", (f"general.type is {kind!r}",))
    return facts


def entries(facts: GgufFacts) -> tuple[tuple[GgufTensor, ...], tuple[GgufTensor, ...]]:
    """The sums and the counts, one pair per weight, all finite.

    Raises:
        UnreadableOutputError: where there are none, or some are not numbers.

    """
    sums = tuple(tensor for tensor in facts.tensors if tensor.name.endswith(SUMS))
    counts = tuple(tensor for tensor in facts.tensors if tensor.name.endswith(COUNTS))
    if not sums or len(sums) != len(counts):
        evidence = (f"{len(sums)} sums and {len(counts)} counts",)
        raise UnreadableOutputError(TOOL, "a sum and a count for every weight", evidence)
    broken = [tensor.name for tensor in sums if not np.isfinite(facts.values(tensor)).all()]
    if broken:
        raise UnreadableOutputError(TOOL, "finite sums", broken[:6])
    return sums, counts


def partial(facts: GgufFacts, counts: tuple[GgufTensor, ...]) -> tuple[str, ...]:
    """The weights of which some expert saw no token at all."""
    return tuple(
        tensor.name.removesuffix(COUNTS) for tensor in counts if (facts.values(tensor) == 0).any()
    )


STAGE = ToolStage(
    name="imatrix",
    version=3,  # bump when argv or parse changes meaning
    tool=TOOL,
    made_by="binary",
    inputs=frozenset({"model", "corpus"}),
    outputs={"imatrix": "imatrix.gguf", "statistics": "statistics.json"},
    params=ImatrixParams,
    result=ImatrixResult,
    argv=argv,
    parse=parse,
    placement=placement_flags,
    complete=complete,
    explain=explain,
    progress=ProgressPattern(
        done=re.compile(r"\[(?P<n>\d+)\]\s?-?[\dn][\d.an]*,"),
        total=re.compile(r"computing over (?P<n>\d+) chunks"),
        unit="chunk",
    ),
)
