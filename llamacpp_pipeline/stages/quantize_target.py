"""One quantized GGUF of a wanted size, its types chosen by llama-quantize (docs/target-bpw.md)."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from llamacpp_pipeline.errors import InputError, PipelineError, UnreadableOutputError
from llamacpp_pipeline.stages.base import (
    ADDED_LATER,
    SHARED,
    Argv,
    Paths,
    ProgressPattern,
    ToolStage,
)
from llamacpp_pipeline.stages.gguf_facts import read_gguf
from llamacpp_pipeline.stages.gguf_labels import GGUF_LABELS
from llamacpp_pipeline.stages.llama_failures import Known, explain_by
from llamacpp_pipeline.stages.llama_log import complaints
from llamacpp_pipeline.stages.quant_types import known_tensor_type
from llamacpp_pipeline.stages.quantize import (
    QUANT_SIZE,
    QuantizeResult,
    TensorPattern,
    TensorType,
    TypeRules,
    decisions,
    placement_argument,
    refuse_disagreement,
    rule_flags,
    written,
)
from llamacpp_pipeline.stages.quantize import explain as explain_quantize
from llamacpp_pipeline.stages.target_asked import Asked, asked_of
from llamacpp_pipeline.stages.target_plan import PlannedTensor, read_plan, refuse_another_plan
from llamacpp_pipeline.stages.tensor_rules import refuse_idle_rules

TOOL = "llama-quantize"
STATE = "target.state"  # in the folder that all targets of a model share
MOST_BPW = 32.0  # of any type; the tool refuses more
TYPE_SETS = ("all", "kquants", "fast")
NOT_IN_A_SET = frozenset({"f32"})
REFUSED = re.compile(r"llama_quantize: error: (?P<what>.+)")
CAUSES = (
    Known(
        line=re.compile(r"error: (?P<what>a target of .* cannot be reached.*)"),
        message="{what}",
        hint="ask for a size within that range, or allow smaller types: `type_set: all`,"
        " no min_types, no pins, an importance matrix",
    ),
    Known(
        line=re.compile(r"error: (?P<what>.*: no type is left between .*)"),
        message="{what}",
        hint="widen min_types or max_types, or the type_set",
    ),
    Known(
        line=re.compile(r"error: (?P<what>group .*)"),
        message="same_type: {what}",
        hint="make the pattern of same_type narrower, or correct the types pinned within it",
    ),
    Known(
        line=re.compile(r"error: (?P<what>imatrix entry .*)"),
        message="{what}",
        hint="use an imatrix of this very model and converter layout",
    ),
    Known(
        line=re.compile(r"error: (?P<what>.* is already quantized .*?):"),
        message="the model to quantize is already quantized: {what}",
        hint="start from an unquantized checkpoint",
    ),
    Known(
        line=re.compile(r"error: (?P<what>.* is not a state file.*|.*state file.*)"),
        message="the measurements that targets of this model share cannot be used: {what}",
        hint="remove them: `llamacpp-pipeline cache prune --shared`; they are made again",
    ),
)


def bits_asked(value: float) -> float:
    """A number of bits per weight that can be asked for.

    Raises:
        ValueError: where it is none; NaN is none.

    """
    if not 0 < value <= MOST_BPW:
        message = f"{value:g} is no number of bits per weight: write one such as 4.5 (at most 32)"
        raise ValueError(message)
    return value


def kld_asked(value: float) -> float:
    """A mean KLD that can be asked for.

    Raises:
        ValueError: where it is none; NaN and infinity are none.

    """
    if not 0 < value < math.inf:
        message = f"{value:g} is no mean KLD to ask for: write nats above 0, such as 0.01"
        raise ValueError(message)
    return value


def type_set(value: object) -> str:
    """`all`, `kquants`, `fast`, or a list of tensor types as the tool takes it: q4_K,q6_K.

    Raises:
        ValueError: where it is none of these.

    """
    if isinstance(value, str) and value in TYPE_SETS:
        return value
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not names:
        message = "a type set is all, kquants, fast, or a list of tensor types"
        raise ValueError(message)
    types = [known_tensor_type(str(name).strip()) for name in names]
    if NOT_IN_A_SET & set(types):
        message = "f32 is not a type to quantize to: leave it out of the type set"
        raise ValueError(message)
    return ",".join(dict.fromkeys(types))


Bpw = Annotated[float, AfterValidator(bits_asked)]
Kld = Annotated[float, AfterValidator(kld_asked)]
TypeSet = Annotated[str, BeforeValidator(type_set)]


class TargetRules(TypeRules):
    """Which types a target may choose, besides what the user decides of single tensors."""

    type_set: TypeSet = "all"
    same_type: tuple[TensorPattern, ...] = ()  # the matching tensors of a layer share one type
    min_types: dict[TensorPattern, TensorType] = {}
    max_types: dict[TensorPattern, TensorType] = {}


class TargetParams(TargetRules):
    """What the file may take. None of the four: as many bits per weight as the input `match`."""

    bpw: Bpw | None = None  # of all tensors
    size_bytes: PositiveInt | None = None  # of the file, header and padding included
    memory_bytes: PositiveInt | None = None  # of the file and what the input `memory` says
    # nats; as few bytes as reach it by the input `sensitivities`
    kld: Annotated[Kld | None, ADDED_LATER] = None

    @model_validator(mode="after")
    def at_most_one_target(self) -> TargetParams:
        targets = (self.bpw, self.size_bytes, self.memory_bytes, self.kld)
        if sum(target is not None for target in targets) > 1:
            message = "give one of bpw, size_bytes, memory_bytes and kld"
            raise ValueError(message)
        return self


class TargetResult(QuantizeResult):
    asked: Asked
    budget_bytes: PositiveInt  # what the tool made of it: tensors; with a size, the file
    min_bytes: PositiveInt  # the smallest and the largest that it could have made
    max_bytes: PositiveInt
    objective: float  # sum of the tensors' errors: the divergence predicted, in nats
    dual_bound: float  # no choice of these types has less
    gap: float  # (objective - dual_bound) / objective
    optimal: bool  # proven for these numbers
    alpha_sources: tuple[str, ...]  # prior, given
    rounds: NonNegativeInt
    measured: NonNegativeInt  # errors measured in this run
    reused: NonNegativeInt  # taken from what earlier targets measured
    tensors: Annotated[tuple[PlannedTensor, ...], Field(min_length=1)]


def argv(params: TargetParams, paths: Paths) -> Argv:
    return (
        TOOL,
        *flag("--imatrix", paths.get("imatrix")),
        *flag("--tensor-weights", paths.get("weights")),
        *plan_flags(params, paths),
        *("--state-file", str(paths[SHARED] / STATE)),
        *("--plan-file", str(paths["plan"]), "--plan-types", str(paths["types"])),
        *(str(paths["model"]), str(paths["gguf"])),
    )


def plan_flags(params: TargetParams, paths: Paths) -> Argv:
    """What is asked for, and among which types is chosen; no paths are among them."""
    refuse_idle_rules(params.rules, read_gguf(paths["model"]))
    asked = asked_of(params, paths)
    return (
        *rule_flags(params),
        *(("--leave-output-tensor",) if params.leave_output_tensor else ()),
        *flag("--target-bpw", asked.bpw),
        *flag("--target-size", asked.size_bytes),
        *choice_flags(params),
    )


def flag(name: str, value: Path | float | None) -> Argv:
    """A flag with its value, where there is one; numbers with all their digits."""
    if value is None:
        return ()
    return (name, str(value) if isinstance(value, Path) else repr(value))


def choice_flags(params: TargetRules) -> Argv:
    """Among which types is chosen."""
    flags = ["--type-set", params.type_set]
    for pattern in params.same_type:
        flags += ["--same-type", pattern]
    for pattern, least in params.min_types.items():
        flags += ["--min-type", f"{pattern}={least}"]
    for pattern, most in params.max_types.items():
        flags += ["--max-type", f"{pattern}={most}"]
    return tuple(flags)


def parse(log: str, paths: Paths) -> TargetResult:
    size = QUANT_SIZE.search(log)
    if size is None or "total time" not in log:
        raise explain(log) or UnreadableOutputError(
            TOOL, "'quant size = ...' and its total time", complaints(log)
        )
    facts, plan = written(paths), read_plan(paths["plan"])
    refuse_disagreement(facts, mib=float(size["mib"]), bpw=float(size["bpw"]))
    refuse_another_plan(plan, facts)
    said = plan.model_dump(include=set(TargetResult.model_fields), exclude={"tensors"})
    return TargetResult(
        **{
            **said,
            "ftype": plan.ftype,
            "n_tensors": len(facts.tensors),
            "n_elements": facts.n_elements,
            "bpw": facts.bpw,
            "file_bpw": facts.file_bpw,
            "types": facts.types,
            "overridden": {},  # as in quantize.py: complete() knows the patterns
            "fallbacks": (),  # a target never plans what does not fit
            "asked": UNKNOWN,
            "alpha_sources": plan.alpha_sources,
            "tensors": plan.quantized,
        }
    )


UNKNOWN = Asked(kind="bpw")  # until complete() puts in what the parameters say


def complete(params: TargetParams, result: TargetResult, paths: Paths) -> TargetResult:
    """The result with what was asked for, which the file must keep to."""
    asked = asked_of(params, paths)
    refuse_too_large(asked, result)
    decided = decisions(params, read_gguf(paths["gguf"]))
    return result.model_copy(update={"asked": asked, "overridden": decided})


def refuse_too_large(asked: Asked, result: TargetResult) -> None:
    """Refuse a file above its target.

    Raises:
        UnreadableOutputError: naming both.

    """
    over_bits = asked.bpw is not None and result.bpw > asked.bpw
    over_size = asked.size_bytes is not None and result.file_bytes > asked.size_bytes
    if over_bits or over_size:
        wanted = f"{asked.bpw} bpw" if over_bits else f"{asked.size_bytes} bytes"
        evidence = (f"it made {result.bpw} bpw, {result.file_bytes} bytes",)
        raise UnreadableOutputError(TOOL, f"a file of at most {wanted}", evidence)


def explain(log: str) -> PipelineError | None:
    """The cause and the remedy; what the planner says where no remedy is known."""
    known = explain_by(CAUSES, log) or explain_quantize(log)
    said = REFUSED.search(log)
    if known is not None or said is None:
        return known
    return InputError(
        f"llama-quantize refuses: {said['what']}", hint="docs/target-bpw.md says what can be asked"
    )


STAGE = ToolStage(
    name="quantize-target",
    version=1,  # bump when argv or parse changes meaning
    tool=TOOL,
    made_by="binary",
    inputs=frozenset({"model"}),
    optional_inputs=frozenset({"imatrix", "weights", "match", "memory", "sensitivities"}),
    outputs={"gguf": "model.gguf", "plan": "plan.json", "types": "types.txt"},
    params=TargetParams,
    result=TargetResult,
    lane="host",
    argv=argv,
    parse=parse,
    placement=placement_argument,
    complete=complete,
    labels=GGUF_LABELS,
    explain=explain,
    shared_by=frozenset({"model", "imatrix"}),
    progress=ProgressPattern(
        done=re.compile(r"\[\s*(?P<n>\d+)/\s*\d+\]"),
        total=re.compile(r"\[\s*\d+/\s*(?P<n>\d+)\]"),
        unit="tensor",
        before=re.compile(r"target: progress\s+(?P<n>\d+)"),
    ),
)
