"""Perplexity (PPL) of one GGUF on one corpus, and the reference logits for KL divergence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import PositiveInt

from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages.base import Argv, Frozen, Paths, ProgressPattern, ToolStage
from llamacpp_pipeline.stages.gguf_facts import read_gguf
from llamacpp_pipeline.stages.llama_failures import explain, refuse_error_records, without
from llamacpp_pipeline.stages.logits_file import predicted_logits_bytes, read_logits_file
from llamacpp_pipeline.stages.tool_flags import cut_flags, placement_flags
from llamacpp_pipeline.units import Estimate

__all__ = [
    "REFERENCE",
    "STAGE",
    "PerplexityParams",
    "PerplexityResult",
    "predicted_logits_bytes",
]

TOOL = "llama-perplexity"
# Searched, never anchored: a line may stand behind a prefix or in the middle of another one.
SHAPE = re.compile(r"calculating perplexity over (?P<n_chunks>\d+) chunks, n_ctx=(?P<n_ctx>\d+)")
FINAL = re.compile(r"Final estimate: PPL = (?P<value>\d+\.\d+) \+/- (?P<stderr>\d+\.\d+)")


class PerplexityParams(Frozen):
    """How the corpus is cut and computed. Every field can change the number."""

    n_ctx: PositiveInt = 512
    n_chunks: PositiveInt | None = None  # None: the whole corpus
    n_batch: PositiveInt = 2048
    n_ubatch: PositiveInt = 512
    flash_attn: Literal["on", "off", "auto"] = "auto"


class PerplexityResult(Frozen):
    ppl: Estimate
    n_ctx: PositiveInt
    n_chunks: PositiveInt  # what the tool measured, which a short corpus can make fewer
    n_vocab: PositiveInt | None = None  # from the logits file, where one was written
    logits_bytes: PositiveInt | None = None


def argv(params: PerplexityParams, paths: Paths) -> Argv:
    read_gguf(paths["model"])
    refuse_empty(paths["corpus"])
    return (
        TOOL,
        *("--model", str(paths["model"])),
        *("--file", str(paths["corpus"]), "--no-escape"),  # else \n in it becomes a line feed
        *cut_flags(params, flash_attn=params.flash_attn),
        "--no-warmup",
    )


def reference_argv(params: PerplexityParams, paths: Paths) -> Argv:
    return (*argv(params, paths), "--kl-divergence-base", str(paths["logits"]))


def parse(log: str, paths: Paths) -> PerplexityResult:
    del paths
    shape, final = SHAPE.search(log), FINAL.search(log)
    if shape is None or final is None:
        raise without(TOOL, "'Final estimate: PPL = ...'", log)
    refuse_error_records(TOOL, log)
    return PerplexityResult(
        ppl=Estimate(value=float(final["value"]), stderr=float(final["stderr"])),
        n_ctx=int(shape["n_ctx"]),
        n_chunks=int(shape["n_chunks"]),
    )


def reference_parse(log: str, paths: Paths) -> PerplexityResult:
    result = parse(log, paths)
    try:
        logits = read_logits_file(paths["logits"])
    except InputError as error:
        raise UnreadableOutputError(
            TOOL,
            "a complete file of reference logits",
            (error.message, *error.evidence),
            hint=error.hint,
        ) from error
    if (logits.n_ctx, logits.n_chunks) != (result.n_ctx, result.n_chunks):
        evidence = (
            f"the file: n_ctx {logits.n_ctx}, {logits.n_chunks} chunks",
            f"the log: n_ctx {result.n_ctx}, {result.n_chunks} chunks",
        )
        raise UnreadableOutputError(TOOL, "logits of the chunks it reports", evidence)
    return result.model_copy(update={"n_vocab": logits.n_vocab, "logits_bytes": logits.size_bytes})


def complete(params: PerplexityParams, result: PerplexityResult, paths: Paths) -> PerplexityResult:
    """The result, once it is known to be of the cut that was asked for."""
    del paths
    refuse_other_cut(params, n_ctx=result.n_ctx, n_chunks=result.n_chunks)
    return result


def refuse_other_cut(params: PerplexityParams, *, n_ctx: int, n_chunks: int) -> None:
    """Refuse numbers of another context, or of more chunks, than were asked for.

    Raises:
        UnreadableOutputError: naming both.

    """
    if n_ctx != params.n_ctx or n_chunks > (params.n_chunks or n_chunks):
        evidence = (f"it reports n_ctx {n_ctx}, {n_chunks} chunks",)
        asked = f"n_ctx {params.n_ctx}, {params.n_chunks or 'all'} chunks"
        raise UnreadableOutputError(TOOL, f"numbers for {asked}", evidence)


def refuse_empty(corpus: Path) -> None:
    """Refuse a text that is not there or holds nothing.

    Raises:
        InputError: naming it.

    """
    if not corpus.is_file():
        raise InputError(f"{corpus.name}: no such text", hint="check the path in the config")
    if corpus.stat().st_size == 0:
        raise InputError(f"{corpus.name} is empty", hint="name a text with something in it")


PROGRESS = ProgressPattern(
    done=re.compile(r"\[(?P<n>\d+)\]\s?-?[\dn][\d.an]*,"),
    total=re.compile(r"calculating perplexity over (?P<n>\d+) chunks"),
    unit="chunk",
)

STAGE = ToolStage(
    name="perplexity",
    version=2,  # bump when argv or parse changes meaning
    tool=TOOL,
    made_by="binary",
    inputs=frozenset({"model", "corpus"}),
    outputs={},
    params=PerplexityParams,
    result=PerplexityResult,
    argv=argv,
    parse=parse,
    placement=placement_flags,
    complete=complete,
    explain=explain,
    progress=PROGRESS,
)

REFERENCE = ToolStage(
    name="reference",
    version=2,
    tool=TOOL,
    made_by="binary",
    inputs=frozenset({"model", "corpus"}),
    outputs={"logits": "logits.kld"},
    params=PerplexityParams,
    result=PerplexityResult,
    argv=reference_argv,
    parse=reference_parse,
    placement=placement_flags,
    complete=complete,
    explain=explain,
    progress=PROGRESS,
)
