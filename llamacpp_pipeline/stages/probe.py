"""Divergences of the reference with single tensors quantized, by llama-kld-probe."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt

from llamacpp_pipeline.errors import PipelineError, UnreadableOutputError
from llamacpp_pipeline.stages.base import Argv, Frozen, Paths, ProgressPattern, ToolStage
from llamacpp_pipeline.stages.gguf_facts import read_gguf
from llamacpp_pipeline.stages.llama_failures import Known, explain_by, refuse_error_records, without
from llamacpp_pipeline.stages.llama_failures import explain as explain_any
from llamacpp_pipeline.stages.perplexity import refuse_empty
from llamacpp_pipeline.stages.probe_kept import kept_file, take
from llamacpp_pipeline.stages.probe_lines import TOOL, Measurement, read_measurements
from llamacpp_pipeline.stages.quant_types import known_tensor_type
from llamacpp_pipeline.stages.tool_flags import cut_flags, placement_flags

NOT_PROBED = frozenset({"f32"})
PLANNED = re.compile(r"probe: (?P<n>\d+) measurements, \d+ of them reused")
MISSING = re.compile(r"probe: out of time: (?P<n>\d+) of \d+ measurements are missing")
DONE = re.compile(r"probe: done in (?P<seconds>\d+\.\d+) seconds")
CAUSES = (
    Known(
        line=re.compile(r"probe: error: (?P<what>the text has .* are needed)"),
        message="the probe text is too short: {what}",
        hint="use a longer text for `sensitivity.corpus`, or a smaller `sensitivity.n_ctx`",
    ),
    Known(
        line=re.compile(r"probe: error: (?P<what>.* is already quantized .*?):"),
        message="the model to probe is already quantized: {what}",
        hint="start from an unquantized checkpoint",
    ),
    Known(
        line=re.compile(r"probe: error: (?P<what>the imatrix is of another model.*)"),
        message="{what}",
        hint="use an imatrix of this very model and converter layout",
    ),
    Known(
        line=re.compile(r"probe: error: (?P<what>.* needs an imatrix that has the tensor)"),
        message="{what}",
        hint="add `calibration:` (or `imatrix:`), or leave that type out of `sensitivity.types`",
    ),
    Known(
        line=re.compile(r"probe: error: there is nothing to measure"),
        message="no tensor can be made at the types of `sensitivity.types`",
        hint="they need an importance matrix: add `calibration:` (or `imatrix:`)",
    ),
    Known(
        line=re.compile(r"probe: error: (?P<what>tensors that are split over devices .*)"),
        message="{what}",
        hint="take --split-mode out of placement.extra",
    ),
    Known(
        line=re.compile(r"probe: error: --results: '.*' is a file of something else"),
        message="what an earlier run has measured cannot be read",
        hint="remove it: `llamacpp-pipeline cache prune --shared`; it is measured again",
    ),
)


def probed_type(name: str) -> str:
    """A type that tensors can be quantized to.

    Raises:
        ValueError: where it is none.

    """
    known = known_tensor_type(name)
    if known in NOT_PROBED:
        message = f"{known} is not a type to quantize to: nothing would be measured"
        raise ValueError(message)
    return known


class ProbeParams(Frozen):
    """Which types every tensor is measured at, and on how much text."""

    n_ctx: PositiveInt = 512
    n_chunks: PositiveInt | None = 16  # None: the whole text
    n_batch: PositiveInt = 2048
    n_ubatch: PositiveInt = 512
    flash_attn: Literal["on", "off", "auto"] = "auto"
    types: Annotated[
        tuple[Annotated[str, AfterValidator(probed_type)], ...], Field(min_length=1)
    ] = ("iq3_s", "q5_K")
    hold: Literal["native", "dequantized"] = "native"  # as files will be computed, or weights alone
    bands: PositiveInt | None = None  # tensors of a role in so many ranges of layers together
    precision: PositiveFloat | None = None  # relative error at which a measurement ends early
    minutes: PositiveFloat | None = None  # no measurement starts later


class ProbeResult(Frozen):
    n_measurements: PositiveInt  # the floor is one of them
    n_missing: NonNegativeInt  # for which there was no time
    n_ctx: PositiveInt
    n_chunks: PositiveInt  # of the measurement that took most
    n_tokens: PositiveInt  # scored in it
    floor: float  # mean KLD of the reference from itself, nats
    seconds: float  # of all measurements, the reference's own pass not counted


def argv(params: ProbeParams, paths: Paths) -> Argv:
    read_gguf(paths["model"])
    refuse_empty(paths["corpus"])
    imatrix = paths.get("imatrix")
    return (
        TOOL,
        *("--model", str(paths["model"])),
        *("--file", str(paths["corpus"]), "--no-escape"),
        *(() if imatrix is None else ("--imatrix", str(imatrix))),
        *("--results", str(kept_file(params, paths))),
        *("--types", ",".join(params.types)),
        *("--hold", params.hold),
        *number("--bands", params.bands),
        *number("--precision", params.precision),
        *number("--minutes", params.minutes),
        *cut_flags(params, flash_attn=params.flash_attn),
    )


def number(name: str, value: float | None) -> Argv:
    """A flag, where it has a value."""
    return () if value is None else (name, repr(value))


def parse(log: str, paths: Paths) -> ProbeResult:
    planned, done = PLANNED.search(log), DONE.search(log)
    if planned is None or done is None:
        raise explain_by(CAUSES, log) or without(TOOL, "'probe: done in ... seconds'", log)
    refuse_error_records(TOOL, log)
    found = read_measurements(paths["measurements"])
    missing = MISSING.search(log)
    n_missing = 0 if missing is None else int(missing["n"])
    if len(found) + n_missing != int(planned["n"]):
        evidence = (f"{len(found)} lines, {n_missing} missing, {planned['n']} planned",)
        raise UnreadableOutputError(TOOL, "a line for each measurement", evidence)
    return summary(found, n_missing=n_missing)


def summary(found: tuple[Measurement, ...], *, n_missing: int) -> ProbeResult:
    """What all measurements come to."""
    longest = max(found, key=lambda measurement: measurement.n_chunks)
    return ProbeResult(
        n_measurements=len(found),
        n_missing=n_missing,
        n_ctx=longest.n_ctx,
        n_chunks=longest.n_chunks,
        n_tokens=longest.n_tokens,
        floor=found[0].kld,
        seconds=sum(measurement.seconds for measurement in found),
    )


def complete(params: ProbeParams, result: ProbeResult, paths: Paths) -> ProbeResult:
    """The result, once it is known to be of the cut and the types that were asked for."""
    if result.n_ctx != params.n_ctx or result.n_chunks > (params.n_chunks or result.n_chunks):
        evidence = (f"it measured n_ctx {result.n_ctx}, {result.n_chunks} chunks",)
        raise UnreadableOutputError(TOOL, f"measurements of n_ctx {params.n_ctx}", evidence)
    if params.minutes is None and result.n_missing:
        raise UnreadableOutputError(TOOL, "all measurements", (f"{result.n_missing} are missing",))
    if len(read_measurements(paths["measurements"])) == 1:
        raise UnreadableOutputError(
            TOOL,
            "the measurement of a tensor",
            ("there was time for none",),
            hint="raise `sensitivity.minutes`, or measure less: fewer n_chunks, fewer types, bands",
        )
    return result


def explain(log: str) -> PipelineError | None:
    """The cause and the remedy, where the log tells a cause that is known."""
    return explain_by(CAUSES, log) or explain_any(log)


STAGE = ToolStage(
    name="probe",
    version=2,  # bump when argv or parse changes meaning
    tool=TOOL,
    made_by="binary",
    inputs=frozenset({"model", "corpus"}),
    optional_inputs=frozenset({"imatrix"}),
    outputs={"measurements": "measurements.jsonl"},
    params=ProbeParams,
    result=ProbeResult,
    argv=argv,
    parse=parse,
    placement=placement_flags,
    complete=complete,
    explain=explain,
    shared_by=frozenset({"model", "corpus", "imatrix"}),
    shared_by_build=True,
    take=take,
    progress=ProgressPattern(
        done=re.compile(r"probe: progress .*\((?P<n>\d+) of \d+ measurements"),
        total=PLANNED,
        unit="measurement",
    ),
)
