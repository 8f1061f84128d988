from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
delta = pytest.importorskip("llamacpp_pipeline.demo.delta")


def step_by_step(*inputs: Any) -> Any:  # noqa: ANN401 - torch may be absent.
    """The recurrence as it is defined, one step at a time, in double precision."""
    q, k, v, g, beta = (x.double() for x in inputs)
    repeat = v.shape[2] // k.shape[2]
    q = torch.nn.functional.normalize(q, dim=-1).repeat_interleave(repeat, 2) * q.shape[-1] ** -0.5
    k = torch.nn.functional.normalize(k, dim=-1).repeat_interleave(repeat, 2)
    state = torch.zeros(v.shape[0], v.shape[2], k.shape[-1], v.shape[-1], dtype=torch.double)
    outputs = []
    for t in range(q.shape[1]):
        state = state * g[:, t, :, None, None].exp()
        found = torch.einsum("bhkv,bhk->bhv", state, k[:, t])
        change = (v[:, t] - found) * beta[:, t, :, None]
        state = state + torch.einsum("bhk,bhv->bhkv", k[:, t], change)
        outputs.append(torch.einsum("bhkv,bhk->bhv", state, q[:, t]))
    return torch.stack(outputs, dim=1)


@pytest.mark.parametrize("steps", [1, 32, 75])
def test_the_chunk_rule_equals_the_recurrence(steps: int) -> None:
    torch.manual_seed(1)
    q, k = torch.randn(2, 2, steps, 2, 16)
    v, g, beta = torch.randn(2, steps, 4, 8), -torch.rand(2, steps, 4), torch.rand(2, steps, 4)
    found, _ = delta.chunk_gated_delta_rule(q, k, v, g=g, beta=beta)
    torch.testing.assert_close(found.double(), step_by_step(q, k, v, g, beta), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 5, 32])
def test_the_product_is_the_inverse(size: int) -> None:
    torch.manual_seed(2)
    strict = torch.rand(3, size, size, dtype=torch.double).tril(-1)
    product = delta.unit_triangular_inverse(strict) @ (torch.eye(size).double() - strict)
    torch.testing.assert_close(product, torch.eye(size).double().expand_as(product))
