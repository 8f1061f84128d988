"""The relative error of every tensor at every type, measured by llama-quantize's planner."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveInt
from pydantic import ValidationError as WrongFormError

from llamacpp_pipeline.errors import PipelineError, UnreadableOutputError
from llamacpp_pipeline.stages.base import Argv, Frozen, Paths, ProgressPattern, ToolStage
from llamacpp_pipeline.stages.gguf_facts import read_gguf
from llamacpp_pipeline.stages.llama_failures import explain as explain_any
from llamacpp_pipeline.stages.llama_log import complaints
from llamacpp_pipeline.stages.quantize import explain as explain_quantize
from llamacpp_pipeline.stages.quantize import placement_argument

TOOL = "llama-quantize"
ANY_TARGET = "16.0"  # bits per weight: above every type's, so that any model reaches it


# What remains is rare in good mixes, and slow to measure: IQ1 types, IQ2_XXS, IQ2_XS.
MEASURED = ("iq2_s", "q2_K", "iq3_xxs", "iq3_s", "q3_K", "iq4_xs", "q4_K", "q5_K", "q6_K", "q8_0")


class CurvesParams(Frozen):
    """The types that every tensor is measured at."""

    types: tuple[str, ...] = MEASURED


class CurvePoint(BaseModel):
    """A tensor at a type; `rho` is null for the type that it has already."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: str
    bytes: PositiveInt
    rho: NonNegativeFloat | None
    error: float | None  # by the planner's prior: alpha x rho
    measured: bool


class CurveTensor(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    bytes: PositiveInt
    elements: PositiveInt
    alpha: NonNegativeFloat | None = None  # the prior
    curve: tuple[CurvePoint, ...] = ()


class Curves(BaseModel):
    """The plan file, as far as it is about curves."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    elements: PositiveInt
    tensor_bytes: PositiveInt
    measured: NonNegativeInt
    tensors: tuple[CurveTensor, ...]

    @property
    def by_name(self) -> Mapping[str, CurveTensor]:
        """The tensors that can be quantized."""
        return {tensor.name: tensor for tensor in self.tensors if tensor.curve}


class CurvesResult(Frozen):
    n_tensors: PositiveInt  # that can be quantized
    n_types: PositiveInt
    measured: PositiveInt


def argv(params: CurvesParams, paths: Paths) -> Argv:
    read_gguf(paths["model"])
    imatrix = paths.get("imatrix")
    return (
        TOOL,
        *(() if imatrix is None else ("--imatrix", str(imatrix))),
        *("--target-bpw", ANY_TARGET, "--type-set", ",".join(params.types)),
        *("--measure-all", "--plan-only"),
        *("--plan-file", str(paths["curves"])),
        str(paths["model"]),
    )


def read_curves(path: Path) -> Curves:
    """The file.

    Raises:
        UnreadableOutputError: where it is of another form, or has no curves.

    """
    try:
        curves = Curves.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UnreadableOutputError(TOOL, "its plan", (str(error.strerror),)) from error
    except WrongFormError as error:
        evidence = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:6]]
        raise UnreadableOutputError(TOOL, "a plan with error curves", evidence) from error
    if not curves.by_name:
        raise UnreadableOutputError(TOOL, "a tensor that can be quantized")
    return curves


def parse(log: str, paths: Paths) -> CurvesResult:
    known = explain(log)
    if known is not None and not paths["curves"].is_file():
        raise known
    curves = read_curves(paths["curves"])
    points = [point for tensor in curves.by_name.values() for point in tensor.curve]
    guessed = [point for point in points if point.rho is not None and not point.measured]
    if guessed or not curves.measured:
        evidence = (f"{len(guessed)} of {len(points)} points are predictions", *complaints(log))
        raise UnreadableOutputError(TOOL, "measured errors of all types", evidence)
    return CurvesResult(
        n_tensors=len(curves.by_name),
        n_types=len({point.type for point in points}),
        measured=curves.measured,
    )


def explain(log: str) -> PipelineError | None:
    """The cause and the remedy, where the log tells a cause that is known."""
    return explain_quantize(log) or explain_any(log)


STAGE = ToolStage(
    name="curves",
    version=1,  # bump when argv or parse changes meaning
    tool=TOOL,
    made_by="binary",
    inputs=frozenset({"model"}),
    optional_inputs=frozenset({"imatrix"}),
    outputs={"curves": "curves.json"},
    params=CurvesParams,
    result=CurvesResult,
    argv=argv,
    parse=parse,
    placement=placement_argument,
    explain=explain,
    progress=ProgressPattern(
        done=re.compile(r"target: progress .*, (?P<n>\d+) of \d+ measurements"),
        total=re.compile(r"target: progress .*, \d+ of (?P<n>\d+) measurements"),
        unit="measurement",
    ),
)
