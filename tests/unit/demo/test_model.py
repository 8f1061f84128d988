from __future__ import annotations

import json
import struct
from math import prod
from typing import Any

import pytest

from llamacpp_pipeline.demo import MODEL_DIR

QWEN35_SPLIT = (  # the comment of LLAMA_VOCAB_PRE_TYPE_QWEN35 in llama.cpp's src/llama-vocab.cpp
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((MODEL_DIR / name).read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def tensors() -> dict[str, dict[str, Any]]:
    with (MODEL_DIR / "model.safetensors").open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header: dict[str, dict[str, Any]] = json.loads(file.read(size))
    header.pop("__metadata__", None)
    return header


def test_the_model_is_at_most_12_mb() -> None:
    assert sum(path.stat().st_size for path in MODEL_DIR.iterdir()) <= 12_000_000


def test_the_architecture_is_that_of_qwen35_without_mtp() -> None:
    config = read("config.json")
    assert config["architectures"] == ["Qwen3_5ForCausalLM"]
    assert config["layer_types"] == ["linear_attention"] * 3 + ["full_attention"]
    assert not config.get("mtp_num_hidden_layers")
    assert "vision_config" not in config


def test_every_matrix_row_is_a_multiple_of_256(tensors: dict[str, dict[str, Any]]) -> None:
    matrices = {name: t["shape"] for name, t in tensors.items() if len(t["shape"]) == 2}
    assert matrices
    assert {name: shape for name, shape in matrices.items() if shape[1] % 256} == {}


def test_the_weights_are_bf16_and_complete(tensors: dict[str, dict[str, Any]]) -> None:
    assert {t["dtype"] for t in tensors.values()} == {"BF16"}
    payload = 2 * sum(prod(t["shape"]) for t in tensors.values())
    assert 0 < (MODEL_DIR / "model.safetensors").stat().st_size - payload < 20_000


def test_the_vocabulary_has_the_size_that_the_model_has() -> None:
    tokenizer = read("tokenizer.json")
    ids = set(tokenizer["model"]["vocab"].values()) | {t["id"] for t in tokenizer["added_tokens"]}
    assert ids == set(range(read("config.json")["vocab_size"]))


def test_the_pre_tokenizer_is_the_one_that_llama_cpp_calls_qwen35() -> None:
    tokenizer = read("tokenizer.json")
    split, byte_level = tokenizer["pre_tokenizer"]["pretokenizers"]
    assert split["pattern"] == {"Regex": QWEN35_SPLIT}
    assert (split["behavior"], split["invert"]) == ("Isolated", False)
    assert (byte_level["type"], byte_level["use_regex"]) == ("ByteLevel", False)
    assert not byte_level["add_prefix_space"]
    assert tokenizer["normalizer"] is None
