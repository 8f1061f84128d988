"""What a model folder says about itself: architecture, parameters, vocabulary, licence."""

from __future__ import annotations

from pydantic import PositiveInt

from llamacpp_pipeline.stages.base import Frozen


class InspectParams(Frozen):
    """Nothing changes what is read."""


class InspectResult(Frozen):
    architecture: str  # config.json's first "architectures" entry
    model_type: str
    n_parameters: PositiveInt  # values in the safetensors files
    n_tensors: PositiveInt
    tensor_bytes: PositiveInt
    largest_tensor_bytes: PositiveInt
    dtypes: dict[str, int]  # "BF16" -> values stored in it
    vocab_size: PositiveInt
    n_ctx_train: PositiveInt | None
    n_layers: PositiveInt | None
    has_mtp: bool  # multi-token-prediction tensors are in the files
    says_mtp: bool  # the config announces them
    has_vision: bool
    license: str | None  # from the front matter of README.md
    tags: tuple[str, ...]
    languages: tuple[str, ...]
    pipeline_tag: str | None
    chat_template: bool
