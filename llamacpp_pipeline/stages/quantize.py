"""One quantized GGUF from the reference, by llama-quantize."""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated

from pydantic import AfterValidator, PositiveInt, model_validator

from llamacpp_pipeline.errors import InputError, PipelineError, UnreadableOutputError
from llamacpp_pipeline.stages.base import (
    Argv,
    Frozen,
    Paths,
    Placement,
    ProgressPattern,
    ToolStage,
)
from llamacpp_pipeline.stages.gguf_facts import GgufFacts, read_gguf
from llamacpp_pipeline.stages.gguf_labels import GGUF_LABELS
from llamacpp_pipeline.stages.llama_failures import Known, explain_by
from llamacpp_pipeline.stages.llama_failures import explain as explain_any
from llamacpp_pipeline.stages.llama_log import complaints
from llamacpp_pipeline.stages.quant_types import (
    FTYPES,
    TENSOR_TYPES,
    UNQUANTIZED,
    known_ftype,
    known_tensor_type,
    tensor_pattern,
)
from llamacpp_pipeline.stages.tensor_rules import (
    OUTPUT,
    Rules,
    quantizable,
    quantized_types,
    refuse_idle_rules,
    refuse_missing_imatrix,
)
from llamacpp_pipeline.stages.tool_flags import n_threads

__all__ = ["FTYPES", "STAGE", "TENSOR_TYPES", "QuantizeParams", "QuantizeResult"]

TOOL = "llama-quantize"
MIB = 2**20
QUANT_SIZE = re.compile(r"quant size\s*=\s*(?P<mib>[\d.]+) MiB \((?P<bpw>[\d.]+) BPW\)")
FALLBACK = re.compile(r"warning: (?P<name>\S+)\s+- ncols\s+\d+ not divisible by .*?falling back to")
FALLBACK_COUNT = re.compile(r"WARNING: (?P<n>\d+) of \d+ tensor\(s\) required fallback")
AS_FTYPE = re.compile(r"quantizing '.*?' to '.*?' as (?P<ftype>\w+)")
CAUSES = (
    Known(
        line=re.compile(r"offending tensor: (?P<what>\S+)"),
        message="{what} would get a type that cannot be made without an imatrix",
        hint="add `calibration:` (or `imatrix:`) to the config, or choose a larger type",
    ),
    Known(
        line=re.compile(r"failed to quantize: (?P<what>.*regular expression.*)"),
        message="llama-quantize cannot read a pattern of tensor_types: {what}",
        hint="write it with std::regex's ECMAScript grammar",
    ),
    Known(
        line=re.compile(r"Missing importance matrix for tensor (?P<what>\S+)"),
        message="the imatrix has no data for {what}, which a type this small needs",
        hint="give that tensor a larger type in tensor_types, or use an imatrix that covers it"
        " (multi-token-prediction layers never are: `convert.mtp: drop` leaves them out)",
    ),
    Known(
        line=re.compile(r"imatrix size \d+ is different from tensor size \d+ for (?P<what>\S+)"),
        message="the imatrix was made for another model: {what} has another size there",
        hint="use an imatrix of this very model and converter layout",
    ),
    Known(
        line=re.compile(r"(?:failed to load imatrix from|missing imatrix metadata in file).*"),
        message="the imatrix cannot be read",
        hint="check that it is an imatrix file and whole",
    ),
    Known(
        line=re.compile(r"tensor '(?P<what>[^']+)' has invalid data"),
        message="the reference GGUF has NaN or infinite values in {what}",
        hint="convert with `convert.outtype: bf16`; if it stays, the checkpoint is damaged",
    ),
    Known(
        line=re.compile(r"requantizing from type (?P<what>\S+) is disabled"),
        message="the model to quantize is already quantized ({what})",
        hint="start from an unquantized checkpoint",
    ),
)

Ftype = Annotated[str, AfterValidator(known_ftype)]
TensorType = Annotated[str, AfterValidator(known_tensor_type)]
TensorPattern = Annotated[str, AfterValidator(tensor_pattern)]


class TypeRules(Frozen):
    """What the user decides of single tensors, whatever decides the others."""

    # Regex on the tensor name -> ggml type. The first match wins: the order counts.
    tensor_types: dict[TensorPattern, TensorType] = {}
    output_tensor_type: TensorType | None = None
    token_embedding_type: TensorType | None = None
    leave_output_tensor: bool = False

    @model_validator(mode="after")
    def one_word_on_the_output(self) -> TypeRules:
        if self.leave_output_tensor and self.output_tensor_type is not None:
            message = "leave_output_tensor and output_tensor_type exclude each other"
            raise ValueError(message)
        return self

    @property
    def rules(self) -> Rules:
        """The overrides as llama-quantize applies them."""
        return Rules(
            by_pattern=tuple(self.tensor_types.items()),
            output=self.output_tensor_type,
            token_embedding=self.token_embedding_type,
        )


class QuantizeParams(TypeRules):
    """A recipe: the file type and what departs from it."""

    ftype: Ftype  # upper case as the tool prints it: Q4_K_M
    pure: bool = False

    @model_validator(mode="after")
    def nothing_that_would_be_ignored(self) -> QuantizeParams:
        if self.tensor_types and self.ftype in UNQUANTIZED:
            message = f"llama-quantize ignores tensor_types where the file type is {self.ftype}"
            raise ValueError(message)
        return self


class QuantizeResult(Frozen):
    ftype: str
    n_tensors: PositiveInt
    n_elements: PositiveInt
    tensor_bytes: PositiveInt
    file_bytes: PositiveInt
    bpw: float  # 8 x tensor bytes / elements, as llama-quantize prints it
    file_bpw: float  # 8 x file bytes / elements
    types: dict[str, int]  # ggml type -> tensors stored in it
    overridden: dict[str, int]  # regex of `tensor_types` -> tensors it decided
    fallbacks: tuple[str, ...]  # tensors whose rows did not fit the type asked for
    type_of: dict[
        str, str
    ] = {}  # of each tensor that can be quantized; records of before have none


def argv(params: QuantizeParams, paths: Paths) -> Argv:
    model = read_gguf(paths["model"])
    refuse_idle_rules(params.rules, model)
    imatrix = paths.get("imatrix")
    if imatrix is None:
        refuse_missing_imatrix(params.rules, params.ftype, params.pure, model)
    return (
        TOOL,
        *(() if imatrix is None else ("--imatrix", str(imatrix))),
        *rule_flags(params),
        *(("--leave-output-tensor",) if params.leave_output_tensor else ()),
        *(("--pure",) if params.pure else ()),
        str(paths["model"]),
        str(paths["gguf"]),
        params.ftype,
    )


def rule_flags(params: TypeRules) -> Argv:
    """One `--tensor-type` per pattern, in order, and the two types with a flag of their own."""
    flags: list[str] = []
    for pattern, tensor_type in params.tensor_types.items():
        flags += ["--tensor-type", f"{pattern}={tensor_type}"]
    if params.output_tensor_type is not None:
        flags += ["--output-tensor-type", params.output_tensor_type]
    if params.token_embedding_type is not None:
        flags += ["--token-embedding-type", params.token_embedding_type]
    return tuple(flags)


def placement_argument(placement: Placement) -> Argv:
    """The number of threads, which the tool takes as its last word."""
    return (str(n_threads(placement)),)


def parse(log: str, paths: Paths) -> QuantizeResult:
    size, ftype = QUANT_SIZE.search(log), AS_FTYPE.search(log)
    if size is None or ftype is None or "total time" not in log:
        raise explain(log) or UnreadableOutputError(
            TOOL, "'quant size = ...' and its total time", complaints(log)
        )
    facts = written(paths)
    refuse_disagreement(facts, mib=float(size["mib"]), bpw=float(size["bpw"]))
    return QuantizeResult(
        ftype=ftype["ftype"],
        n_tensors=len(facts.tensors),
        n_elements=facts.n_elements,
        tensor_bytes=facts.tensor_bytes,
        file_bytes=facts.file_bytes,
        bpw=facts.bpw,
        file_bpw=facts.file_bpw,
        types=facts.types,
        overridden={},  # which patterns there were, only the parameters tell: see complete()
        fallbacks=read_fallbacks(log),
        type_of=quantized_types(facts),
    )


def written(paths: Paths) -> GgufFacts:
    """The file that was made.

    Raises:
        UnreadableOutputError: where it is not a whole GGUF.

    """
    try:
        return read_gguf(paths["gguf"])
    except InputError as error:
        evidence = (error.message, *error.evidence)
        raise UnreadableOutputError(TOOL, "a whole GGUF", evidence) from error


def refuse_disagreement(facts: GgufFacts, *, mib: float, bpw: float) -> None:
    """Refuse a file whose tensors are not what the log counted, to the log's rounding.

    Raises:
        UnreadableOutputError: naming both.

    """
    half = 0.00501  # of the last digit printed
    if abs(facts.tensor_bytes / MIB - mib) > half or abs(facts.bpw - bpw) > half:
        evidence = (
            f"the file: {facts.tensor_bytes / MIB:.4f} MiB of tensors, {facts.bpw:.4f} BPW",
            f"the log: {mib} MiB, {bpw} BPW",
        )
        raise UnreadableOutputError(TOOL, "a file of the size it reports", evidence)


def read_fallbacks(log: str) -> tuple[str, ...]:
    """The tensors whose rows did not fit, as many as the tool counted.

    Raises:
        UnreadableOutputError: where the two differ.

    """
    names = tuple(match["name"] for match in FALLBACK.finditer(log))
    count = FALLBACK_COUNT.search(log)
    if len(names) != (0 if count is None else int(count["n"])):
        evidence = (f"{len(names)} named", "counted: " + ("none" if count is None else count["n"]))
        raise UnreadableOutputError(TOOL, "the names of all tensors that fell back", evidence)
    return names


def complete(params: QuantizeParams, result: QuantizeResult, paths: Paths) -> QuantizeResult:
    """The result with what each pattern decided, each decision found in the file."""
    if result.ftype != params.ftype:
        evidence = (f"it made {result.ftype}",)
        raise UnreadableOutputError(TOOL, f"the file type {params.ftype}", evidence)
    decided = decisions(params, read_gguf(paths["gguf"]), fallbacks=result.fallbacks)
    return result.model_copy(update={"overridden": decided})


def decisions(
    params: TypeRules, facts: GgufFacts, *, fallbacks: tuple[str, ...] = ()
) -> dict[str, int]:
    """Each pattern with the number of tensors it decided.

    Raises:
        UnreadableOutputError: where a tensor has not the type that its pattern asks for.

    """
    decided: Counter[str] = Counter(dict.fromkeys(params.tensor_types, 0))
    wrong: list[str] = []
    for tensor in filter(quantizable, facts.tensors):
        rule = params.rules.deciding(tensor.name)
        if rule is None or (params.leave_output_tensor and tensor.name == OUTPUT):
            continue
        decided[rule[0]] += 1
        if tensor.type != rule[1] and tensor.name not in fallbacks:
            wrong.append(f"{tensor.name}: {tensor.type} instead of {rule[1]}")
    if wrong:
        raise UnreadableOutputError(TOOL, "the types that tensor_types asks for", wrong[:6])
    return dict(decided)


def explain(log: str) -> PipelineError | None:
    """The cause and the remedy, where the log tells a cause that is known."""
    return explain_by(CAUSES, log) or explain_any(log)


STAGE = ToolStage(
    name="quantize",
    version=1,  # bump when argv or parse changes meaning
    tool=TOOL,
    made_by="binary",
    inputs=frozenset({"model"}),
    optional_inputs=frozenset({"imatrix"}),
    outputs={"gguf": "model.gguf"},
    params=QuantizeParams,
    result=QuantizeResult,
    lane="host",
    argv=argv,
    parse=parse,
    placement=placement_argument,
    complete=complete,
    labels=GGUF_LABELS,
    explain=explain,
    progress=ProgressPattern(
        done=re.compile(r"\[\s*(?P<n>\d+)/\s*\d+\]"),
        total=re.compile(r"\[\s*\d+/\s*(?P<n>\d+)\]"),
        unit="tensor",
    ),
)
