"""The reference GGUF, made from the Hub checkpoint by convert_hf_to_gguf.py."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt

from llamacpp_pipeline.stages.base import Frozen


class ConvertParams(Frozen):
    """How the checkpoint becomes a GGUF."""

    outtype: Literal["f16", "bf16", "f32", "auto"] = "auto"  # auto: F16 where every weight fits
    mtp: Literal["auto", "keep", "drop"] = "auto"  # auto: keep where the tensors are there
    mmproj: bool = False  # the multimodal projector instead of the language model
    pre_tokenizer: str | None = None  # for vocabularies the converter does not know
    model_name: str  # general.name in the file


class ConvertResult(Frozen):
    outtype: Literal["f16", "bf16", "f32"]
    architecture: str  # general.architecture
    pre_tokenizer: str
    pre_tokenizer_overridden: bool
    n_tensors: PositiveInt
    n_elements: PositiveInt
    tensor_bytes: PositiveInt
    file_bytes: PositiveInt
    bpw: float
    file_bpw: float
