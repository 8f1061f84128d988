"""The reference GGUF, made from the Hub checkpoint by convert_hf_to_gguf.py."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import PositiveInt, ValidationError

from llamacpp_pipeline.errors import (
    InputError,
    PipelineError,
    ToolchainError,
    UnreadableOutputError,
)
from llamacpp_pipeline.stages.base import Argv, Frozen, Paths, ProgressPattern, ToolStage
from llamacpp_pipeline.stages.gguf_facts import GgufFacts, read_gguf
from llamacpp_pipeline.stages.llama_failures import Known, explain_by
from llamacpp_pipeline.stages.llama_log import complaints
from llamacpp_pipeline.stages.model_folder import read_config
from llamacpp_pipeline.stages.mtp import mtp_flags
from llamacpp_pipeline.stages.safetensors_files import checkpoint_tensors, names
from llamacpp_pipeline.stages.weights import WeightsResult, read_report

TOOL = "convert_hf_to_gguf"
EXPORTED = "Model successfully exported to"
OVERRIDDEN = re.compile(r"pre-tokenizer overridden: '(?P<name>[^']+)'")
MISSING_PACKAGE = re.compile(r"ModuleNotFoundError: No module named '(?P<name>[\w.]+)'")
Outtype = Literal["f16", "bf16", "f32"]
OUTTYPES: dict[int, Outtype] = {0: "f32", 1: "f16", 32: "bf16"}  # by general.file_type
CAUSES = (
    Known(
        line=re.compile(r"BPE pre-tokenizer was not recognized"),
        message="the converter does not know this model's tokenizer",
        hint="find out which known tokenizer splits text in the same way (compare the"
        " pre_tokenizer of the two tokenizer.json files), and name it with"
        " `convert.pre_tokenizer`, for example `pre_tokenizer: qwen35`",
    ),
    Known(
        line=re.compile(r"Model (?P<what>\S+) is not supported"),
        message="the converter does not support the architecture {what}",
        hint="choose another model; a model without a vision part has no `mmproj`",
    ),
    Known(
        line=re.compile(r"Failed to detect model architecture"),
        message="the model's config.json names no architecture",
        hint="add `architectures` to its config.json, or choose another model",
    ),
    Known(
        line=re.compile(r"Missing or incomplete model files: (?P<what>.*)"),
        message="files of the model are absent: {what}",
        hint="fetch the model again",
    ),
    Known(
        line=re.compile(r"Can not map tensor '(?P<what>[^']+)'"),
        message="the converter does not know the tensor {what}",
        hint="the checkpoint holds more than its architecture has: choose another model",
    ),
)


class ConvertParams(Frozen):
    """How the checkpoint becomes a GGUF."""

    outtype: Literal["f16", "bf16", "f32", "auto"] = "auto"  # auto: F16 where every weight fits
    mtp: Literal["auto", "keep", "drop"] = "auto"  # auto: keep where the tensors are there
    mmproj: bool = False  # the multimodal projector instead of the language model
    pre_tokenizer: str | None = None  # for vocabularies the converter does not know
    model_name: str  # general.name in the file


class ConvertResult(Frozen):
    outtype: Outtype
    architecture: str  # general.architecture
    pre_tokenizer: str  # "": the vocabulary needs none, or there is no vocabulary
    pre_tokenizer_overridden: bool
    n_tensors: PositiveInt
    n_elements: PositiveInt
    tensor_bytes: PositiveInt
    file_bytes: PositiveInt
    bpw: float
    file_bpw: float


def argv(params: ConvertParams, paths: Paths) -> Argv:
    config = read_config(paths["model"])
    tensor_names = names(checkpoint_tensors(paths["model"]))
    return (
        TOOL,
        str(paths["model"]),
        *("--outfile", str(paths["gguf"])),
        *("--outtype", outtype(params, report(paths))),
        *("--model-name", params.model_name),
        *(("--mmproj",) if params.mmproj else mtp_flags(params.mtp, config, tensor_names)),
        *(("--pre-tokenizer", params.pre_tokenizer) if params.pre_tokenizer else ()),
    )


def report(paths: Paths) -> WeightsResult | None:
    """The weights' report, where it is among the inputs.

    Raises:
        InputError: where it cannot be read.

    """
    file = paths.get("weights")
    if file is None:
        return None
    try:
        return read_report(file)
    except (OSError, ValidationError) as error:
        problem = str(error).splitlines()[0]
        raise InputError(f"{file.name} is not a report on weights", evidence=(problem,)) from error


def outtype(params: ConvertParams, weights: WeightsResult | None) -> Outtype:
    """The type to convert to; `auto` chooses F16 where every weight fits it, else BF16.

    Raises:
        InputError: where F16 was asked for and would lose weights, naming the tensors; where
            `auto` has no report to go by.

    """
    if params.outtype == "auto":
        if weights is None:
            raise InputError(
                "`convert.outtype: auto` needs the weights to have been counted",
                hint="run the weights step, or name an outtype",
            )
        return "f16" if weights.fits_f16 else "bf16"
    if params.outtype == "f16" and weights is not None and not weights.fits_f16:
        raise no_f16(weights)
    return params.outtype


def no_f16(weights: WeightsResult) -> InputError:
    """The error that names the tensors F16 cannot hold."""
    broken = [t for t in weights.tensors if t.n_overflow + t.n_nan + t.n_inf]
    evidence = [
        f"{t.name}: {t.n_overflow} beyond 65504 (largest {t.max_abs:g}), {t.n_nan} NaN,"
        f" {t.n_inf} infinite of {t.n_values}"
        for t in broken[:6]
    ]
    evidence += [f"{count} values are stored as {t}" for t, count in weights.unchecked.items()]
    return InputError(
        f"{len(broken)} tensors do not fit F16" if broken else "not known to fit F16",
        evidence=evidence,
        hint="set `convert.outtype: bf16` (or `auto`, which chooses it by itself)",
    )


def parse(log: str, paths: Paths) -> ConvertResult:
    if EXPORTED not in log:
        raise explain(log) or UnreadableOutputError(TOOL, f"{EXPORTED!r}", complaints(log))
    facts = written(paths)
    file_type = facts.number("general.file_type")
    if file_type not in OUTTYPES:
        evidence = (f"general.file_type is {file_type}",)
        raise UnreadableOutputError(TOOL, "a GGUF of F32, F16 or BF16", evidence)
    pre = facts.metadata.get("tokenizer.ggml.pre", "")
    return ConvertResult(
        outtype=OUTTYPES[file_type],
        architecture=facts.architecture,
        pre_tokenizer=str(pre),
        pre_tokenizer_overridden=OVERRIDDEN.search(log) is not None,
        n_tensors=len(facts.tensors),
        n_elements=facts.n_elements,
        tensor_bytes=facts.tensor_bytes,
        file_bytes=facts.file_bytes,
        bpw=facts.bpw,
        file_bpw=facts.file_bpw,
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


def complete(params: ConvertParams, result: ConvertResult, paths: Paths) -> ConvertResult:
    """The result, once the file is known to be what was asked for."""
    wanted = outtype(params, report(paths))
    if result.outtype != wanted:
        raise UnreadableOutputError(TOOL, f"a GGUF of {wanted}", (f"it made {result.outtype}",))
    asked = None if params.mmproj else params.pre_tokenizer
    if asked is not None and (result.pre_tokenizer, result.pre_tokenizer_overridden) != (
        asked,
        True,
    ):
        evidence = (f"the file says {result.pre_tokenizer!r}",)
        raise UnreadableOutputError(TOOL, f"the pre-tokenizer {asked}", evidence)
    return result


def explain(log: str) -> PipelineError | None:
    """The cause and the remedy, where the log tells a cause that is known."""
    package = MISSING_PACKAGE.search(log)
    if package is not None:
        return ToolchainError(
            f"the converter needs the Python package {package['name']}, which is not installed",
            hint="run `make venv`, or pip install 'llamacpp-pipeline[convert]' torch",
        )
    return explain_by(CAUSES, log)


STAGE = ToolStage(
    name="convert",
    version=1,  # bump when argv or parse changes meaning
    tool=TOOL,
    made_by="converter",
    inputs=frozenset({"model"}),
    optional_inputs=frozenset({"weights"}),
    outputs={"gguf": "model.gguf"},
    params=ConvertParams,
    result=ConvertResult,
    lane="host",
    argv=argv,
    parse=parse,
    complete=complete,
    explain=explain,
    progress=ProgressPattern(
        done=re.compile(r"Writing:\s+(?P<n>\d+)%"), total=None, unit="percent"
    ),
)
