"""From measured divergences to the file that llama-quantize takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages import curves as curves_stage
from llamacpp_pipeline.stages.curves import Curves, CurvesParams, read_curves
from llamacpp_pipeline.stages.probe_lines import Measurement
from llamacpp_pipeline.stages.sensitivity import (
    STAGE,
    SensitivityResult,
    computed,
    main,
    weights,
)
from tests.unit.stages.makers import write_gguf

NAMES = ("token_embd.weight", "blk.0.attn_q.weight", "blk.1.attn_q.weight")
RHO = {"iq3_s": 0.02, "q4_K": 0.005, "q5_K": 0.001, "q8_0": 0.00002}
PRIOR = {NAMES[0]: 0.5, NAMES[1]: 0.02, NAMES[2]: 0.01}


def tensor(name: str) -> dict[str, Any]:
    alpha = PRIOR[name]
    curve = [
        {"type": kind, "bytes": 100, "rho": rho, "error": alpha * rho, "measured": True}
        for kind, rho in RHO.items()
    ]
    kept = {"type": "bf16", "bytes": 400, "rho": 0.0, "error": 0.0, "measured": True}
    return {
        "name": name,
        "bytes": 400,
        "elements": 200,
        "alpha": alpha,
        "curve": [*curve, kept],
    }


def plan() -> dict[str, Any]:
    norm = {"name": "output_norm.weight", "bytes": 8, "elements": 2}
    return {
        "elements": 602,
        "tensor_bytes": 1208,
        "measured": 15,
        "tensors": [*map(tensor, NAMES), norm],
    }


def measurement(tensors: dict[str, str], kld: float, *, noise: float = 0.0) -> dict[str, Any]:
    return {
        "key": json.dumps([tensors, kld]),
        "id": "x",
        "hold": "dequantized",
        "tensors": tensors,
        "relative_error": {},
        "n_ctx": 64,
        "n_chunks": 2,
        "n_tokens": 62,
        "kld": kld,
        "kld_stderr": 1e-5,
        "kld_p999": 0.1,
        "same_top": 99.0,
        "chunk_kld": [kld + noise, kld - noise],
        "seconds": 1.5,
    }


FLOOR = measurement({}, 0.0001)
FOUND = (
    FLOOR,
    measurement({NAMES[0]: "IQ3_S"}, 0.0121, noise=0.001),
    measurement({NAMES[0]: "q5_K"}, 0.0007),
    measurement({NAMES[1]: "iq3_s"}, 0.0007),
)


def result_of(found: tuple[dict[str, Any], ...]) -> SensitivityResult:
    return computed([Measurement.model_validate(one) for one in found], curves())


def curves() -> Curves:
    return Curves.model_validate(plan())


def test_alpha_is_what_a_unit_of_error_costs_above_the_floor() -> None:
    result = result_of(FOUND)
    embedding, query = result.tensors
    assert (query.name, query.layer, query.role) == (NAMES[1], 0, "attn_q.weight")
    assert query.alpha.value == pytest.approx(0.0006 / 0.02)
    assert query.prior == 0.02
    assert [m.type for m in embedding.measured] == ["IQ3_S", "q5_K"]
    assert embedding.measured[0].divergence.value == pytest.approx(0.012)
    assert embedding.measured[0].divergence.stderr == pytest.approx(0.001)
    assert embedding.alpha.value == pytest.approx(0.6, rel=1e-6)
    assert result.not_measured == (NAMES[2],)
    assert result.floor == 0.0001
    assert result.seconds == 6.0
    assert result.prior_rank_correlation is None  # of two tensors nothing can be said


def test_a_group_is_shared_out_by_the_prior() -> None:
    group = measurement({NAMES[1]: "iq3_s", NAMES[2]: "iq3_s"}, 0.0010)
    one, other = result_of((FLOOR, group)).tensors
    assert one.alpha.value == pytest.approx(0.0009 * (2 / 3) / 0.02)
    assert other.alpha.value == pytest.approx(0.0009 * (1 / 3) / 0.02)


def test_the_weights_have_a_divergence_for_every_type_of_known_error() -> None:
    given = json.loads(weights(result_of(FOUND)))["tensors"]
    assert set(given) == set(NAMES[:2])
    assert given[NAMES[1]]["divergence"]["q4_K"] == pytest.approx(0.0006 * 0.005 / 0.02)
    assert set(given[NAMES[0]]["divergence"]) == set(RHO)  # the type it has costs nothing anyway
    assert given[NAMES[0]]["divergence"]["iq3_s"] == pytest.approx(0.012)


def test_as_files_are_computed_their_inputs_are_rounded_too() -> None:
    native = tuple({**one, "hold": "native"} for one in FOUND)
    query = result_of(native).tensors[1]
    assert query.alpha.value == pytest.approx(0.0006 / (0.02 + 3e-5))
    given = json.loads(weights(result_of(native)))["tensors"]
    lost = (0.00002 + 3e-5) / (0.02 + 3e-5)
    assert given[NAMES[1]]["divergence"]["q8_0"] == pytest.approx(0.0006 * lost)


def test_what_is_of_another_model_is_refused() -> None:
    with pytest.raises(InputError, match="no curve of errors"):
        result_of((FLOOR, measurement({"blk.9.attn_q.weight": "q4_K"}, 0.1)))
    with pytest.raises(InputError, match="no measurement"):
        result_of((FLOOR, measurement({NAMES[0]: "q2_K"}, 0.1)))


def test_the_program_writes_what_the_stage_reads(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(
        "".join(json.dumps(one) + "\n" for one in FOUND), encoding="utf-8"
    )
    (tmp_path / "c.json").write_text(json.dumps(plan()), encoding="utf-8")
    paths = {
        "measurements": tmp_path / "m.jsonl",
        "curves": tmp_path / "c.json",
        "weights": tmp_path / "w.json",
        "report": tmp_path / "s.json",
    }
    with pytest.raises(UnreadableOutputError, match="sensitivities"):
        STAGE.parse("", paths)
    words = STAGE.argv(STAGE.params(), paths)
    ran = CliRunner().invoke(main, list(words[1:]))
    assert ran.exit_code == 0, ran.output
    assert "2 sensitivities from 4 measurements" in ran.output
    assert STAGE.parse(ran.output, paths) == result_of(FOUND)
    (tmp_path / "w.json").write_text('{"tensors": {}}', encoding="utf-8")
    with pytest.raises(UnreadableOutputError, match="that were measured"):
        STAGE.parse("", paths)


def test_curves_ask_for_all_types_and_no_model(tmp_path: Path) -> None:
    paths = {"model": write_gguf(tmp_path / "m.gguf"), "curves": tmp_path / "c.json"}
    assert curves_stage.argv(CurvesParams(types=("q4_K", "q8_0")), paths) == (
        "llama-quantize",
        *("--target-bpw", "16.0", "--type-set", "q4_K,q8_0", "--measure-all", "--plan-only"),
        *("--plan-file", str(paths["curves"]), str(paths["model"])),
    )


def test_predicted_errors_are_no_curves(tmp_path: Path) -> None:
    paths = {"curves": tmp_path / "c.json"}
    paths["curves"].write_text(json.dumps(plan()), encoding="utf-8")
    found = curves_stage.parse("", paths)
    assert (found.n_tensors, found.n_types, found.measured) == (3, 5, 15)
    guessed = plan()
    guessed["tensors"][0]["curve"][0]["measured"] = False
    paths["curves"].write_text(json.dumps(guessed), encoding="utf-8")
    with pytest.raises(UnreadableOutputError, match="measured errors of all types"):
        curves_stage.parse("", paths)


@pytest.mark.parametrize("text", ["", "{}", '{"elements": 1, "tensor_bytes": 1, "tensors": []}'])
def test_a_file_without_curves_is_unreadable(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.json"
    with pytest.raises(UnreadableOutputError):
        read_curves(path)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UnreadableOutputError):
        read_curves(path)
