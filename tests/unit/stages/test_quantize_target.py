"""The size target: what is asked of the tool, what it must prove, and how refusals are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages.gguf_facts import read_gguf
from llamacpp_pipeline.stages.quantize_target import (
    STAGE,
    TargetParams,
    TargetRules,
    argv,
)
from llamacpp_pipeline.stages.target_asked import bpw_of
from llamacpp_pipeline.stages.target_plan import read_plan
from tests.unit.stages.makers import LOGS, recorded, write_gguf

TOOL = "llama-quantize"
PLAN = LOGS / TOOL / "b10454" / "target_plan.json"


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    names = {"model": "f16.gguf", "imatrix": "imatrix.gguf", "gguf": "model.gguf"}
    found = {name: tmp_path / file for name, file in names.items()}
    found |= {"plan": tmp_path / "plan.json", "types": tmp_path / "types.txt"}
    write_gguf(found["model"])
    return {**found, "shared": tmp_path / "shared"}


def after(flag: str, command: tuple[str, ...]) -> list[str]:
    return [command[at + 1] for at, word in enumerate(command) if word == flag]


def planned(paths: dict[str, Path], **changes: Any) -> None:  # noqa: ANN401  JSON
    """A plan that says what the file is."""
    facts = read_gguf(paths["gguf"])
    plan = json.loads(PLAN.read_text())
    tensors = [
        {"name": t.name, "status": "chosen", "type": t.type, "elements": t.n_elements,
         "bytes": t.n_bytes, "alpha": 0.5, "alpha_source": "prior", "error": 0.25}
        for t in facts.tensors
    ]  # fmt: skip
    said = {"file_bytes": facts.file_bytes, "tensor_bytes": facts.tensor_bytes, "tensors": tensors}
    paths["plan"].write_text(json.dumps({**plan, **said, "bpw": facts.bpw, **changes}))


def log_of(file: Path) -> str:
    facts = read_gguf(file)
    return (
        f"llama_model_quantize_impl: quant size  = {facts.tensor_bytes / 2**20:8.2f} MiB"
        f" ({facts.bpw:.2f} BPW)\nllama_quantize:    total time = 1.0 ms\n"
    )


def test_everything_asked_for_is_on_the_command_line(paths: dict[str, Path]) -> None:
    params = TargetParams(
        bpw=4.5678,
        type_set="q4_k, q6_K",
        tensor_types={"ssm_out": "q8_0"},
        leave_output_tensor=True,
        same_type=(r"ffn_(gate|up)\.",),
        min_types={"attn_qkv": "q4_K"},
        max_types={"token_embd": "q6_K"},
    )

    command = argv(params, paths)

    assert command[:3] == (TOOL, "--imatrix", str(paths["imatrix"]))
    assert "--leave-output-tensor" in command
    assert after("--target-bpw", command) == ["4.5678"]
    assert after("--type-set", command) == ["q4_K,q6_K"]
    assert after("--tensor-type", command) == ["ssm_out=q8_0"]
    assert after("--same-type", command) == [r"ffn_(gate|up)\."]
    assert after("--min-type", command) == ["attn_qkv=q4_K"]
    assert after("--max-type", command) == ["token_embd=q6_K"]
    assert after("--state-file", command) == [str(paths["shared"] / "target.state")]
    assert command[-2:] == (str(paths["model"]), str(paths["gguf"]))  # no file type, ours is chosen


def test_a_match_asks_for_the_very_bytes_of_the_other_file(paths: dict[str, Path]) -> None:
    other = write_gguf(paths["gguf"].with_name("other.gguf"))
    facts = read_gguf(other)

    (asked,) = after("--target-bpw", argv(TargetParams(), {**paths, "match": other}))

    assert float(asked) == bpw_of(other)
    assert int(float(asked) * facts.n_elements / 8) == facts.tensor_bytes  # as the tool rounds


def test_a_memory_leaves_the_file_what_the_context_does_not_need(paths: dict[str, Path]) -> None:
    report = paths["plan"].with_name("record.json")
    report.write_text(json.dumps({"result": {"context_bytes": 300, "compute_bytes": 200}}))

    command = argv(TargetParams(memory_bytes=10_000), {**paths, "memory": report})

    assert after("--target-size", command) == ["9500"]
    with pytest.raises(InputError, match="leaves nothing for the weights") as error:
        argv(TargetParams(memory_bytes=500), {**paths, "memory": report})
    assert error.value.hint is not None
    assert "less context" in error.value.hint


def test_a_pattern_that_decides_nothing_is_refused(paths: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="matches no tensor"):
        argv(TargetParams(bpw=4, tensor_types={"smm_out": "q8_0"}), paths)


@pytest.mark.parametrize("bpw", [0, -1, 33, float("nan"), float("inf")])
def test_bits_that_are_none_are_refused(bpw: float) -> None:
    with pytest.raises(ValidationError, match="no number of bits per weight"):
        TargetParams(bpw=bpw)


def test_two_targets_are_refused() -> None:
    with pytest.raises(ValidationError, match="give one of"):
        TargetParams(bpw=4, size_bytes=1000)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("quick", "no tensor of type 'quick'"),
        (["f32", "q4_K"], "f32 is not a type to quantize to"),
        ([], "all, kquants, fast, or a list"),
        (4, "all, kquants, fast, or a list"),
        (["Q4_K_M"], "Q4_K_M is a file type"),
    ],
)
def test_a_type_set_of_no_types_is_refused(given: Any, words: str) -> None:  # noqa: ANN401
    with pytest.raises(ValidationError, match=words):
        TargetRules.model_validate({"type_set": given})


def test_the_result_is_the_files_and_the_plans(paths: dict[str, Path]) -> None:
    write_gguf(paths["gguf"])
    planned(paths)

    result = STAGE.read(TargetParams(bpw=32), log_of(paths["gguf"]), paths)

    assert result.asked.model_dump(exclude_none=True) == {"kind": "bpw", "bpw": 32}
    assert (result.ftype, result.n_tensors) == ("Q4_K_S", 8)
    assert result.alpha_sources == ("prior",)
    assert result.objective == pytest.approx(result.dual_bound, rel=0.2)
    tensor = next(t for t in result.tensors if t.name == "blk.1.ssm_out.weight")
    assert (tensor.layer, tensor.role, tensor.alpha, tensor.error) == (1, "ssm_out", 0.5, 0.25)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tensors": []}, "the file that it planned"),
        ({"file_bytes": 5}, "the file that it planned"),
        ({"tensor_bytes": 5}, "the file that it planned"),
        ({"format": "another"}, "a plan of the form"),
        ({"version": 2}, "a plan of the form"),
        ({"objective": None}, "a plan of the form"),
    ],
)
def test_a_plan_that_is_not_of_the_file_is_refused(
    paths: dict[str, Path], changes: dict[str, Any], words: str
) -> None:
    write_gguf(paths["gguf"])
    planned(paths, **changes)

    with pytest.raises(UnreadableOutputError, match=words):
        STAGE.read(TargetParams(bpw=32), log_of(paths["gguf"]), paths)


def test_without_a_plan_there_is_no_result(paths: dict[str, Path]) -> None:
    write_gguf(paths["gguf"])

    with pytest.raises(UnreadableOutputError, match="its plan"):
        STAGE.read(TargetParams(bpw=32), log_of(paths["gguf"]), paths)


@pytest.mark.parametrize("target", [{"bpw": 31.9}, {"size_bytes": 100}])
def test_a_file_above_its_target_is_refused(
    paths: dict[str, Path], target: dict[str, float]
) -> None:
    write_gguf(paths["gguf"])
    planned(paths)

    with pytest.raises(UnreadableOutputError, match="a file of at most"):
        STAGE.read(TargetParams.model_validate(target), log_of(paths["gguf"]), paths)


def test_the_recorded_plan_is_read() -> None:
    plan = read_plan(PLAN)

    assert plan.tensor_bytes == sum(tensor.bytes for tensor in plan.tensors)
    assert plan.tensor_bytes <= plan.budget_bytes
    assert plan.objective == pytest.approx(sum(t.error or 0 for t in plan.tensors))
    assert {t.status for t in plan.quantized} == {"chosen"}
    assert {t.type for t in plan.quantized} <= {"q3_K", "q4_K", "q6_K"}
    assert plan.alpha_sources == ("prior",)


def test_the_recorded_log_holds_the_proof(paths: dict[str, Path]) -> None:
    write_gguf(paths["gguf"])
    planned(paths)

    with pytest.raises(UnreadableOutputError, match="a file of the size it reports"):
        STAGE.read(TargetParams(bpw=32), recorded(TOOL, "target_good"), paths)


@pytest.mark.parametrize(
    ("case", "words", "fix"),
    [
        ("target_unreachable", "the model takes 1.", "within that range"),
        ("target_size_unreachable", " to 9", "within that range"),
        ("target_no_type", "no type is left between", "min_types"),
        ("target_group", "pinned to different types", "same_type"),
        ("target_other_state", "is not a state file", "cache prune --shared"),
    ],
)
def test_refusals_are_explained_with_a_fix(case: str, words: str, fix: str) -> None:
    explained = STAGE.explain(recorded(TOOL, case))

    assert isinstance(explained, InputError)
    assert words in explained.message
    assert explained.hint is not None
    assert fix in explained.hint


def test_a_refusal_that_is_not_known_is_told_in_the_tools_words() -> None:
    explained = STAGE.explain("llama_quantize: error: the moon is full\n")

    assert isinstance(explained, InputError)
    assert "the moon is full" in explained.message
    assert STAGE.explain("something else") is None


def test_progress_is_the_search_and_then_the_tensors() -> None:
    progress = STAGE.progress
    assert progress is not None
    assert progress.before is not None
    log = recorded(TOOL, "target_good")

    assert [int(match["n"]) for match in progress.before.finditer(log)][-1] == 100
    assert [match["n"] for match in progress.done.finditer(log)][-1] == "55"
