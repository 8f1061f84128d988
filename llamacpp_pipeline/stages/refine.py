"""The types of a size, validated and corrected: prior, measured, and measured again where close.

One child (`stages/refine_loop.py`) that runs llama-quantize's planner and llama-kld-probe in turn:
how often, only their numbers tell. No model file is written. What both tools measured lies in the
shared folder, so that an interrupted refinement goes on from there.
"""

from __future__ import annotations

import json
import re
from typing import Literal

from pydantic import PositiveFloat, PositiveInt, ValidationError

from llamacpp_pipeline.errors import PipelineError, UnreadableOutputError
from llamacpp_pipeline.stages import own_tool
from llamacpp_pipeline.stages.base import (
    SHARED,
    Argv,
    Frozen,
    Paths,
    Placement,
    ProgressPattern,
    ToolStage,
)
from llamacpp_pipeline.stages.gguf_facts import read_gguf
from llamacpp_pipeline.stages.llama_log import complaints
from llamacpp_pipeline.stages.perplexity import refuse_empty
from llamacpp_pipeline.stages.probe import explain as explain_probe
from llamacpp_pipeline.stages.quantize_target import TargetParams, plan_flags
from llamacpp_pipeline.stages.quantize_target import explain as explain_target
from llamacpp_pipeline.stages.refine_record import RefineResult
from llamacpp_pipeline.stages.tool_flags import cut_flags, n_threads, placement_flags

TOOL = "llamacpp_pipeline.stages.refine_loop"
QUANTIZE, PROBE = "llama-quantize", "llama-kld-probe"
MOST_ROUNDS = 8


class Rounds(Frozen):
    """How far a refinement goes."""

    rounds: PositiveInt = 2  # at most so often are marginal values measured at the solution
    validation_chunks: PositiveInt = 32  # of the text by which a mix is kept
    minutes: PositiveFloat | None = None  # of each round; no measurement starts later


class RefineParams(Rounds):
    """The file that is asked for, how far to go, and how texts are cut: as the probe's."""

    target: TargetParams
    n_ctx: PositiveInt = 512
    n_chunks: PositiveInt | None = (
        16  # of the probe; the first round takes twice as many, the next four times
    )
    n_batch: PositiveInt = 2048
    n_ubatch: PositiveInt = 512
    flash_attn: Literal["on", "off", "auto"] = "auto"
    hold: Literal["native", "dequantized"] = "native"


def argv(params: RefineParams, paths: Paths) -> Argv:
    read_gguf(paths["model"])
    refuse_empty(paths["corpus"])
    given = ("imatrix", "validation")
    return (
        TOOL,
        *("--model", str(paths["model"])),
        *("--corpus", str(paths["corpus"])),
        *(word for name in given if name in paths for word in (f"--{name}", str(paths[name]))),
        *("--sensitivities", str(paths["sensitivities"])),
        *("--measured-weights", str(paths["measured"])),
        *("--planner-flags", json.dumps(plan_flags(params.target, paths))),
        *("--probe-flags", json.dumps(probe_flags(params))),
        *("--n-chunks", str(params.n_chunks or 0)),
        *("--rounds", str(params.rounds)),
        *("--validation-chunks", str(params.validation_chunks)),
        *(() if params.minutes is None else ("--minutes", repr(params.minutes))),
        *("--work", str(paths[SHARED])),
        *("--weights", str(paths["weights"])),
        *("--output", str(paths["report"])),
    )


def probe_flags(params: RefineParams) -> Argv:
    """The cut but for the number of chunks, which changes from round to round."""
    *cut, _, _ = cut_flags(params, flash_attn=params.flash_attn)
    return (*cut, "--hold", params.hold, "--no-escape")


def placement_words(placement: Placement) -> Argv:
    """Where the two tools run."""
    flags = json.dumps(placement_flags(placement))
    return ("--placement", flags, "--threads", str(n_threads(placement)))


def parse(log: str, paths: Paths) -> RefineResult:
    try:
        result = RefineResult.model_validate_json(paths["report"].read_bytes())
        json.loads(paths["weights"].read_bytes())["tensors"]
    except (OSError, ValueError, KeyError, ValidationError) as error:
        evidence = (*complaints(log), str(error).splitlines()[0])
        raise UnreadableOutputError(TOOL, "its mixes and weights", evidence) from error
    kept = next((mix for mix in result.mixes if mix.name == result.kept), None)
    if kept is None or any(mix.kld.value < kept.kld.value for mix in result.mixes):
        raise UnreadableOutputError(TOOL, "the mix that measured best", (result.kept,))
    return result


def explain(log: str) -> PipelineError | None:
    """The cause and the remedy: its own words, or those of the tool that failed."""
    return explain_probe(log) or explain_target(log) or own_tool.explain(log)


STAGE = ToolStage(
    name="refine",
    version=1,  # bump when argv, parse or the loop changes meaning
    tool=TOOL,
    made_by="binary",
    calls=frozenset({QUANTIZE, PROBE}),
    inputs=frozenset({"model", "corpus", "sensitivities", "measured"}),
    optional_inputs=frozenset({"imatrix", "validation", "match", "memory"}),
    outputs={"weights": "weights.json", "report": "refinement.json"},
    params=RefineParams,
    result=RefineResult,
    argv=argv,
    parse=parse,
    placement=placement_words,
    explain=explain,
    shared_by=frozenset({"model", "imatrix"}),
    progress=ProgressPattern(
        done=re.compile(r"probe: progress .*\((?P<n>\d+) of \d+ measurements"),
        total=re.compile(r"probe: (?P<n>\d+) measurements, \d+ of them reused"),
        unit="measurement",
    ),
)
