"""One quantized GGUF from the reference, by llama-quantize."""

from __future__ import annotations

from pydantic import PositiveInt

from llamacpp_pipeline.stages.base import Frozen


class QuantizeParams(Frozen):
    """A recipe: the file type and what departs from it."""

    ftype: str  # upper case as the tool prints it: Q4_K_M
    tensor_types: dict[str, str] = {}  # regex on the tensor name -> ggml type; first match wins
    output_tensor_type: str | None = None
    token_embedding_type: str | None = None
    leave_output_tensor: bool = False
    pure: bool = False


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
