"""Multi-token prediction (MTP, "nextn"): whether a checkpoint's draft layers are converted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from llamacpp_pipeline.errors import InputError
from llamacpp_pipeline.stages.base import Argv
from llamacpp_pipeline.stages.model_folder import Json, holds_mtp, text_architecture

# Architectures for which the converter of the pinned llama.cpp accepts `--no-mtp`.
CAN_DROP = frozenset(
    {
        "DeepseekV32ForCausalLM",
        "DeepseekV4ForCausalLM",
        "Glm4MoeLiteForCausalLM",
        "GlmMoeDsaForCausalLM",
        "HYV3ForCausalLM",
        "MiniCPMV4_6ForConditionalGeneration",
        "NemotronHForCausalLM",
        "Qwen3NextForCausalLM",
        "Qwen3_5ForCausalLM",
        "Qwen3_5ForConditionalGeneration",
        "Qwen3_5MoeForCausalLM",
        "Qwen3_5MoeForConditionalGeneration",
        "Step3p5ForCausalLM",
        "Step3p7ForConditionalGeneration",
    }
)
DROP: Argv = ("--no-mtp",)


def mtp_flags(
    wanted: Literal["auto", "keep", "drop"], config: Json, tensor_names: Iterable[str]
) -> Argv:
    """The converter's flag. It must be told where the tensors are absent: it looks for them.

    Raises:
        InputError: where what is wanted cannot be.

    """
    present = holds_mtp(config, tensor_names)
    name = text_architecture(config)
    if wanted == "keep" and not present:
        raise InputError(
            "the checkpoint has no multi-token-prediction tensors to keep",
            evidence=(f"architecture {name}; no tensor is named mtp.* or lies past the layers",),
            hint="set `convert.mtp: auto`",
        )
    if wanted == "keep" or (wanted == "auto" and present):
        return ()
    if name in CAN_DROP:
        return DROP
    if present:
        raise InputError(
            f"the converter cannot leave out the multi-token-prediction layers of {name}",
            hint="set `convert.mtp: keep`",
        )
    return ()
