"""The gated delta rule over chunks, with the triangular inverse as a product."""

from __future__ import annotations

import torch
from torch.nn import functional


def unit_triangular_inverse(strict: torch.Tensor) -> torch.Tensor:
    """Return the inverse of I - A for strictly lower triangular A of shape (..., n, n).

    A^n = 0, so the geometric series I + A + A^2 + ... ends, and it factors into
    (I + A)(I + A^2)(I + A^4)...: log2(n) matrix products instead of a solve.
    """
    size = strict.shape[-1]
    identity = torch.eye(size, dtype=strict.dtype, device=strict.device)
    inverse, power, reached = identity + strict, strict, 2
    while reached < size:
        power = power @ power
        inverse = inverse + inverse @ power
        reached *= 2
    return inverse


def chunk_gated_delta_rule(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    g: torch.Tensor,
    beta: torch.Tensor,
    chunk_size: int = 32,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Return the outputs of the gated delta rule from an empty state, and no final state.

    Per head and step t, with q and k of length 1 and q scaled by 1/sqrt(dk):
    S = exp(g_t) S; S = S + k_t beta_t (v_t - S^T k_t)^T; o_t = S^T q_t.
    Shapes: query and key (batch, steps, key heads, dk), value (batch, steps,
    value heads, dv), g (log decay, at most 0) and beta (batch, steps, value
    heads). Consecutive value heads share a key head.
    """
    steps = query.shape[1]
    repeat = value.shape[2] // key.shape[2]
    scaled = _unit(query) * query.shape[-1] ** -0.5
    cut = _Cutter(chunk_size)
    q, k = (cut(x).repeat_interleave(repeat, dim=1) for x in (scaled, _unit(key)))
    v, rate, log_decay = cut(value), cut(beta[..., None]), cut(g[..., None])
    out = _scan(q, k, v, log_decay.cumsum(-2), rate)
    return out.flatten(2, 3)[:, :, :steps].transpose(1, 2).to(query.dtype), None


class _Cutter:
    """Cuts (batch, steps, heads, size) to float32 (batch, heads, chunks, chunk, size)."""

    def __init__(self, chunk_size: int) -> None:
        self.chunk_size = chunk_size

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.transpose(1, 2).float()
        padded = functional.pad(rows, (0, 0, 0, -rows.shape[2] % self.chunk_size))
        return padded.unflatten(2, (-1, self.chunk_size))


def _unit(x: torch.Tensor) -> torch.Tensor:
    wide = x.float()
    return wide * (wide.square().sum(-1, keepdim=True) + 1e-6).rsqrt()


def _scan(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    total: torch.Tensor,
    rate: torch.Tensor,
) -> torch.Tensor:
    """Run the chunks in order; ``total`` is the log decay summed from a chunk's start."""
    causal = torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool, device=q.device).tril()
    span = (total - total.transpose(-1, -2)).masked_fill(~causal, -torch.inf).exp()
    k_rate = k * rate
    system = -((k_rate @ k.transpose(-1, -2)) * span).tril(-1)
    inverse = unit_triangular_inverse(system)
    fresh, stale = inverse @ (v * rate), inverse @ (k_rate * total.exp())
    within = (q @ k.transpose(-1, -2)) * span
    reads, end = q * total.exp(), total[..., -1:, :]
    writes, keep = (k * (end - total).exp()).transpose(-1, -2), end.exp()
    state = q.new_zeros(*q.shape[:2], q.shape[-1], v.shape[-1])
    outputs = []
    for i in range(q.shape[2]):
        change = fresh[:, :, i] - stale[:, :, i] @ state
        outputs.append(reads[:, :, i] @ state + within[:, :, i] @ change)
        state = state * keep[:, :, i] + writes[:, :, i] @ change
    return torch.stack(outputs, dim=2)
