"""A llama of random weights, small enough to be computed again in numpy from its token ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGUFWriter, TokenType

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Observer = Callable[[str, Doubles, npt.NDArray[np.int64] | None], None]

FIRST_BYTE = 3  # <unk> <s> </s>, then one token per byte: the tokens of a text are its bytes
BOS = 1
EPS = 1e-5
ROPE_BASE = 10000.0


@dataclass(frozen=True, kw_only=True)
class TinyLlama:
    """Sizes and weights; `n_experts` 0 is a dense feed-forward."""

    n_embd: int = 256
    n_head: int = 4
    n_head_kv: int = 2
    n_ff: int = 512
    n_layers: int = 3
    n_experts: int = 0
    n_experts_used: int = 2
    seed: int = 1

    @property
    def head_size(self) -> int:
        return self.n_embd // self.n_head

    def weights(self) -> Mapping[str, Floats]:
        """By GGUF name, in numpy's order (output rows first)."""
        rng = np.random.default_rng(self.seed)
        return {name: _draw(name, shape, rng) for name, shape in self._shapes()}

    def _shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        kv = self.head_size * self.n_head_kv
        yield "token_embd.weight", (FIRST_BYTE + 256, self.n_embd)
        yield "output_norm.weight", (self.n_embd,)
        yield "output.weight", (FIRST_BYTE + 256, self.n_embd)
        for layer in range(self.n_layers):
            prefix = f"blk.{layer}."
            yield f"{prefix}attn_norm.weight", (self.n_embd,)
            yield f"{prefix}attn_q.weight", (self.n_embd, self.n_embd)
            yield f"{prefix}attn_k.weight", (kv, self.n_embd)
            yield f"{prefix}attn_v.weight", (kv, self.n_embd)
            yield f"{prefix}attn_output.weight", (self.n_embd, self.n_embd)
            yield f"{prefix}ffn_norm.weight", (self.n_embd,)
            yield from self._ffn_shapes(prefix)

    def _ffn_shapes(self, prefix: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        experts = (self.n_experts,) if self.n_experts else ()
        suffix = "_exps" if self.n_experts else ""
        if self.n_experts:
            yield f"{prefix}ffn_gate_inp.weight", (self.n_experts, self.n_embd)
        yield f"{prefix}ffn_gate{suffix}.weight", (*experts, self.n_ff, self.n_embd)
        yield f"{prefix}ffn_up{suffix}.weight", (*experts, self.n_ff, self.n_embd)
        yield f"{prefix}ffn_down{suffix}.weight", (*experts, self.n_embd, self.n_ff)


def _draw(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    # Channels differ in mean and size, so that a wrong channel, sign or row shows.
    noise = rng.standard_normal(shape)
    if "norm" in name:
        return (1 + 0.5 * noise).astype(np.float32)
    if name == "token_embd.weight":
        return (noise * np.exp(rng.standard_normal(shape[-1])) + 0.3).astype(np.float32)
    return np.asarray(noise / np.sqrt(shape[-1]), dtype=np.float32)


def write_gguf(model: TinyLlama, path: Path, *, half: bool = False) -> None:
    """As a GGUF in F32, or with its matrices in F16."""
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(2048)
    writer.add_embedding_length(model.n_embd)
    writer.add_block_count(model.n_layers)
    writer.add_feed_forward_length(model.n_ff)
    writer.add_head_count(model.n_head)
    writer.add_head_count_kv(model.n_head_kv)
    writer.add_layer_norm_rms_eps(EPS)
    writer.add_rope_dimension_count(model.head_size)
    writer.add_rope_freq_base(ROPE_BASE)
    if model.n_experts:
        writer.add_expert_count(model.n_experts)
        writer.add_expert_used_count(model.n_experts_used)
    _add_byte_vocabulary(writer)
    for name, weight in model.weights().items():
        is_matrix = half and weight.ndim > 1 and "ffn_gate_inp" not in name
        writer.add_tensor(name, weight.astype(np.float16) if is_matrix else weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_byte_vocabulary(writer: GGUFWriter) -> None:
    special = [b"<unk>", b"<s>", b"</s>"]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(special + [f"<0x{byte:02X}>".encode() for byte in range(256)])
    writer.add_token_scores([0.0] * (FIRST_BYTE + 256))
    kinds = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL, *[TokenType.BYTE] * 256]
    writer.add_token_types(kinds)
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)  # noqa: FBT003 - gguf's own signature
    writer.add_add_space_prefix(False)  # noqa: FBT003 - gguf's own signature


def chunks_of(text: bytes, *, n_ctx: int) -> npt.NDArray[np.int64]:
    """The token ids that llama-imatrix evaluates: each chunk's first is replaced by BOS."""
    spaced = text.replace(b" ", "\N{LOWER ONE EIGHTH BLOCK}".encode())  # as SentencePiece does
    ids = np.concatenate([[BOS], np.frombuffer(spaced, np.uint8).astype(np.int64) + FIRST_BYTE])
    chunks: npt.NDArray[np.int64] = ids[: len(ids) // n_ctx * n_ctx].reshape(-1, n_ctx).copy()
    chunks[:, 0] = BOS
    return chunks


def rms_norm(x: Doubles, weight: Floats) -> Doubles:
    return np.asarray(x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + EPS) * weight)


def forward(model: TinyLlama, ids: npt.NDArray[np.int64], observe: Observer) -> Doubles:
    """The rows after the last layer, of one chunk, in double precision.

    Every input of a layer's weight matrix is shown to `observe`.
    It receives the weight's name, the rows, and the expert of each row (None: dense).
    """
    w = model.weights()
    x = w["token_embd.weight"][ids].astype(np.float64)
    for layer in range(model.n_layers):
        prefix = f"blk.{layer}."
        x = x + _attention(model, w, prefix, x, observe)
        h = rms_norm(x, w[f"{prefix}ffn_norm.weight"])
        x = x + (_experts if model.n_experts else _dense)(model, w, prefix, h, observe)
    return np.asarray(x)


def _silu(x: Doubles) -> Doubles:
    return np.asarray(x / (1 + np.exp(-x)))


def _rope(x: Doubles) -> Doubles:
    """Rotates neighbouring pairs of channels; x is [token, head, channel]."""
    half = x.shape[-1] // 2
    angles = np.arange(len(x))[:, None] * ROPE_BASE ** (-np.arange(half) / half)
    turned = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)[:, None, :]
    return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)


def _attention(
    model: TinyLlama, w: Mapping[str, Floats], prefix: str, x: Doubles, observe: Observer
) -> Doubles:
    h = rms_norm(x, w[f"{prefix}attn_norm.weight"])
    heads = {}
    for kind in ("q", "k", "v"):
        observe(f"{prefix}attn_{kind}.weight", h, None)
        heads[kind] = (h @ w[f"{prefix}attn_{kind}.weight"].T).reshape(len(x), -1, model.head_size)
    repeat = model.n_head // model.n_head_kv
    q, k = _rope(heads["q"]), np.repeat(_rope(heads["k"]), repeat, axis=1)
    v = np.repeat(heads["v"], repeat, axis=1)
    scores = np.einsum("thc,shc->hts", q, k) / np.sqrt(model.head_size)
    scores[:, np.triu(np.ones((len(x), len(x)), dtype=bool), 1)] = -np.inf
    odds = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = np.einsum("hts,shc->thc", odds / odds.sum(axis=-1, keepdims=True), v)
    mixed = mixed.reshape(len(x), -1)
    observe(f"{prefix}attn_output.weight", mixed, None)
    return np.asarray(mixed @ w[f"{prefix}attn_output.weight"].T)


def _dense(
    model: TinyLlama, w: Mapping[str, Floats], prefix: str, h: Doubles, observe: Observer
) -> Doubles:
    del model
    observe(f"{prefix}ffn_gate.weight", h, None)
    observe(f"{prefix}ffn_up.weight", h, None)
    inner = _silu(h @ w[f"{prefix}ffn_gate.weight"].T) * (h @ w[f"{prefix}ffn_up.weight"].T)
    observe(f"{prefix}ffn_down.weight", inner, None)
    return np.asarray(inner @ w[f"{prefix}ffn_down.weight"].T)


def _experts(
    model: TinyLlama, w: Mapping[str, Floats], prefix: str, h: Doubles, observe: Observer
) -> Doubles:
    observe(f"{prefix}ffn_gate_inp.weight", h, None)
    logits = h @ w[f"{prefix}ffn_gate_inp.weight"].T
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    odds /= odds.sum(axis=-1, keepdims=True)
    chosen = np.argsort(-logits, axis=-1)[:, : model.n_experts_used]
    share = np.take_along_axis(odds, chosen, axis=-1)
    share /= share.sum(axis=-1, keepdims=True)
    result = np.zeros_like(h)
    for rank in range(model.n_experts_used):
        expert = chosen[:, rank]
        observe(f"{prefix}ffn_gate_exps.weight", h, expert)
        observe(f"{prefix}ffn_up_exps.weight", h, expert)
        gate = np.einsum("ti,toi->to", h, w[f"{prefix}ffn_gate_exps.weight"][expert])
        up = np.einsum("ti,toi->to", h, w[f"{prefix}ffn_up_exps.weight"][expert])
        inner = _silu(gate) * up
        observe(f"{prefix}ffn_down_exps.weight", inner, expert)
        down = np.einsum("ti,toi->to", inner, w[f"{prefix}ffn_down_exps.weight"][expert])
        result += share[:, rank : rank + 1] * down
    return result
