"""Small files of the kinds that stages read, made for the test."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

LOGS = Path(__file__).parents[2] / "logs"
CONFIG = {
    "architectures": ["Qwen3_5ForCausalLM"],
    "model_type": "qwen3_5_text",
    "num_hidden_layers": 2,
    "vocab_size": 8,
    "max_position_embeddings": 512,
}
TENSORS = (
    "token_embd.weight",
    "output.weight",
    "blk.0.attn_norm.weight",
    "blk.0.attn_qkv.weight",
    "blk.0.ssm_out.weight",
    "blk.0.ssm_conv1d.weight",
    "blk.1.attn_qkv.weight",
    "blk.1.ssm_out.weight",
)


def recorded(tool: str, case: str) -> str:
    """A recorded log, without the line that says how it was made."""
    text = (LOGS / tool / "b10454" / f"{case}.txt").read_text(encoding="utf-8")
    command, _, output = text.partition("\n")
    assert command.startswith(f"# {tool} ")
    return output


def write_gguf(
    path: Path,
    *,
    tensors: Mapping[str, npt.NDArray[np.float32]] | None = None,
    texts: Mapping[str, str] | None = None,
    numbers: Mapping[str, int] | None = None,
    n_vocab: int = 8,
) -> Path:
    """A GGUF of F32 tensors with a vocabulary."""
    writer = gguf.GGUFWriter(path, "qwen35")
    for key, text in (texts or {}).items():
        writer.add_string(key, text)
    for key, number in (numbers or {}).items():
        writer.add_uint32(key, number)
    if n_vocab:
        writer.add_token_list([f"token{n}" for n in range(n_vocab)])
    if tensors is None:
        one = np.zeros((4, 256), dtype=np.float32)
        tensors = {name: one[0] if "norm" in name else one for name in TENSORS}
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_logits(path: Path, *, n_ctx: int = 128, n_vocab: int = 8, n_chunks: int = 8) -> Path:
    """A file of reference logits of the right size, its values all zero."""
    row = 2 * ((n_vocab + 1) // 2) + 4
    rows = n_chunks * (n_ctx - 1 - n_ctx // 2)
    header = b"_logits_" + np.array([n_ctx, n_vocab, n_chunks], dtype="<i4").tobytes()
    path.write_bytes(header + bytes(4 * n_ctx * n_chunks + 2 * row * rows))
    return path


@dataclass(frozen=True, kw_only=True)
class Raw:
    """The bytes of one tensor of a safetensors file."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


def bf16(*patterns: int) -> Raw:
    """A BF16 tensor by its bit patterns."""
    data = np.array(patterns, dtype="<u2").tobytes()
    return Raw(dtype="BF16", shape=(len(patterns),), data=data)


def f32(*values: float) -> Raw:
    return Raw(dtype="F32", shape=(len(values),), data=np.array(values, dtype="<f4").tobytes())


def write_safetensors(path: Path, tensors: Mapping[str, Raw]) -> Path:
    """A safetensors file, written by its published layout."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, raw in tensors.items():
        end = at + len(raw.data)
        header[name] = {"dtype": raw.dtype, "shape": raw.shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    data = b"".join(raw.data for raw in tensors.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def write_model(
    folder: Path,
    tensors: Mapping[str, Raw] | None = None,
    config: Mapping[str, object] | None = None,
) -> Path:
    """A model folder in Hub format."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG if config is None else config))
    (folder / "tokenizer.json").write_text("{}")
    write_safetensors(
        folder / "model.safetensors",
        {"model.embed_tokens.weight": f32(*range(16))} if tensors is None else tensors,
    )
    return folder
