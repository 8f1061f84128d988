"""The rule for the constants of llama-quantize's prior, on models whose constants are known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.bench.prior_constants import (
    EARLIER,
    Part,
    Tensor,
    cells,
    completed,
    fitted,
    judged,
    read_table,
)

TRUE = {"head": 1.2, "ffn_down": 0.2, "attn_q": 0.1, "attn_output": 0.3, "ssm_out": 0.25}
RHO = 0.02


def tensor(role: str, kld: float, *, s: float = 1.0, name: str = "") -> Tensor:
    return Tensor(name=name or role, kld=kld, rho=RHO, parts=(Part(role=role, s=s, rho=RHO),))


def model(scale: float, *roles: str) -> list[Tensor]:
    """Three tensors a role, one of them far off."""
    return [
        tensor(role, scale * TRUE[role] * s * RHO * off, s=s, name=f"{role}.{at}")
        for role in roles
        for at, (s, off) in enumerate([(0.5, 1.0), (0.1, 30.0), (0.2, 1.0)])
    ]


def test_constants_come_out_of_models_of_different_scales() -> None:
    models = {
        "a": model(2.0, "ffn_down", "attn_q", "attn_output", "ssm_out"),
        "b": model(1.0, "head", "ffn_down", "attn_q", "attn_output"),
        "c": model(0.5, "head", "attn_q", "attn_output"),
    }

    found = fitted(models)

    assert found == pytest.approx(TRUE)


def test_where_models_disagree_the_geometric_mean_is_taken() -> None:
    models = {
        name: [tensor("ffn_down", 0.2 * RHO), tensor("attn_q", each * RHO)]
        for name, each in (("a", 0.05), ("b", 0.2))
    }

    found = fitted(models)

    assert found["attn_q"] / found["ffn_down"] == pytest.approx(0.1 / 0.2)


def test_a_tied_matrix_tells_no_constant() -> None:
    both = tuple(Part(role=role, s=1.0, rho=RHO) for role in ("head", "embedding"))
    tied = Tensor(name="token_embd", kld=0.03, rho=RHO, parts=both)

    assert cells([tied, *model(1.0, "ffn_down")]).keys() == {"ffn_down"}


def test_unknown_roles_keep_their_place_beside_the_known() -> None:
    known = {"ffn_down": 4 * EARLIER["ffn_down"], "attn_q": EARLIER["attn_q"], "head": 7.0}

    found = completed(known, ["ffn_down", "attn_q", "head", "ssm_beta"])

    assert found == pytest.approx({**known, "ssm_beta": 2 * EARLIER["ssm_beta"]})


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_a_scale_of_the_model_is_no_fault_of_the_prior(scale: float) -> None:
    tensors = [tensor("ffn_down", scale * s * RHO * 0.2, s=s) for s in (0.1, 0.2, 0.4)]

    assert judged(tensors, TRUE) == pytest.approx((1.0, 0.0), abs=1e-12)


def test_a_prior_that_is_wrong_is_told_apart() -> None:
    tensors = [tensor("ffn_down", RHO * 0.2, s=s) for s in (1.0, math.e)]

    rank, spread = judged([*tensors, tensor("attn_q", RHO * 0.4)], TRUE)

    assert rank < 1
    assert spread > 0.5


def source(folder: Path, lines: Mapping[str, str]) -> Path:
    for name, text in lines.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_the_table_is_read_from_the_source(tmp_path: Path) -> None:
    text = """
constexpr double C_HEAD      = 1.20;
constexpr double C_EMBEDDING = 0.26;
constexpr double C_STREAM    = 0.19;
    { "ffn_down",            FFN,           true,  1.00 },
    { "ssm_alpha",           ATTENTION,     false, 0.038 },
"""
    found = read_table(source(tmp_path, {"llama-quant-bpw-prior.cpp": text}))

    assert found["head"] == 1.2
    assert found["ffn_down"] == pytest.approx(0.19)
    assert found["ssm_alpha"] == pytest.approx(0.19 * 0.038)


def test_a_source_without_the_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="C_STREAM"):
        read_table(source(tmp_path, {"llama-quant-bpw-prior.cpp": "nothing"}))
