"""Failures of llama.cpp's tools whose cause and remedy are known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from llamacpp_pipeline.errors import (
    InputError,
    PipelineError,
    StepFailedError,
    UnreadableOutputError,
)
from llamacpp_pipeline.stages.llama_log import complaints, error_records

NEEDED = re.compile(r"you need at least (?P<needed>\d+) tokens .*?context of (?P<n_ctx>\d+)")
HAD = re.compile(r"tokenizes to only (?P<had>\d+) tokens")


@dataclass(frozen=True, kw_only=True)
class Known:
    """A line that tells the cause, what to say (`{what}`: its group of that name), what to do."""

    line: re.Pattern[str]
    message: str
    hint: str
    kind: type[InputError | StepFailedError] = InputError


KNOWN = (
    Known(
        line=re.compile(r"non-finite values detected in (?P<what>\S+)"),
        message="the model computes values that are not finite, at {what}",
        hint="if it was converted to F16, set `convert.outtype: bf16`; else it is damaged",
    ),
    Known(
        line=re.compile(r"\[\d+\]-?nan,"),
        message="the model's answers are not numbers (NaN)",
        hint="if it was converted to F16, set `convert.outtype: bf16`; else it is damaged",
    ),
    Known(
        line=re.compile(r"out of memory|unable to allocate|failed to allocate", re.IGNORECASE),
        message="the model did not fit in memory",
        hint="give it fewer GPU layers (placement.n_gpu_layers), a smaller n_batch or n_ctx,"
        " or a machine with more memory",
        kind=StepFailedError,
    ),
    Known(
        line=re.compile(r"unknown pre-tokenizer type"),
        message="the GGUF names a pre-tokenizer that this llama.cpp does not know",
        hint="convert it again with `convert.pre_tokenizer` set to one that it knows",
    ),
    Known(
        line=re.compile(r"unknown model architecture"),
        message="the GGUF is of an architecture that this llama.cpp does not know",
        hint="choose a model that the pinned llama.cpp supports",
    ),
    Known(
        line=re.compile(r"check_tensor_dims: tensor 'blk\.\d+\.\S+' not found"),
        message="the GGUF announces a layer whose tensors it does not hold",
        hint="where the layer is a multi-token-prediction head, convert with `convert.mtp: drop`",
    ),
    Known(
        line=re.compile(r"data is not within the file bounds|invalid magic characters"),
        message="the GGUF is cut short or is not a GGUF",
        hint="make or fetch it again",
    ),
    Known(
        line=re.compile(r"No space left on device|basic_ios::clear: iostream error"),
        message="the disk is full",
        hint="free some space, or use another store (--store)",
        kind=StepFailedError,
    ),
)


def explain(log: str) -> PipelineError | None:
    """An error with its remedy, where the log tells a cause that is known."""
    short = text_too_short(log)
    if short is not None:
        return short
    return explain_by(KNOWN, log)


def explain_by(causes: Sequence[Known], log: str) -> PipelineError | None:
    """The error of the first of these causes that the log tells."""
    for known in causes:
        match = known.line.search(log)
        if match is not None:
            what = match.groupdict().get("what", "").strip(" '")
            return known.kind(
                known.message.format(what=what), evidence=complaints(log), hint=known.hint
            )
    return None


def text_too_short(log: str) -> InputError | None:
    """The text given has too few tokens for one measurement."""
    needed, had = NEEDED.search(log), HAD.search(log)
    if needed is None or had is None:
        return None
    n_ctx = int(needed["n_ctx"])
    return InputError(
        f"the text is too short for n_ctx {n_ctx}: {needed['needed']} tokens are needed"
        f" (twice the context), it has {had['had']}",
        evidence=complaints(log),
        hint=f"use a longer text, or set n_ctx to at most {int(had['had']) // 2}",
    )


def without(tool: str, expected: str, log: str) -> PipelineError:
    """The error for a tool that ended without its proof: the known cause, or its own words."""
    return explain(log) or UnreadableOutputError(tool, expected, complaints(log))


def refuse_error_records(tool: str, log: str) -> None:
    """Refuse a result that stands beside lines of the error level.

    Raises:
        PipelineError: with those lines.

    """
    errors: Sequence[str] = error_records(log)
    if errors:
        raise explain(log) or UnreadableOutputError(tool, "a log free of errors", errors)
