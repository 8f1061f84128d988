"""Variants by size in a plan: what they depend on, and how large they will be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from llamacpp_pipeline.plan.budget import budget
from llamacpp_pipeline.plan.fingerprint import fingerprints
from llamacpp_pipeline.plan.step import RECORD, OutputRef, Plan
from llamacpp_pipeline.plan.targets import wish
from llamacpp_pipeline.stages import memory, quantize_target
from llamacpp_pipeline.stages.memory import MemoryParams
from llamacpp_pipeline.stages.quantize_target import TargetParams
from tests.unit.plan.world import CALIBRATED, CALIBRATION, QWEN_9B, identity, leaf, plan

Variant = dict[str, Any]
SOURCES = replace(CALIBRATED, hints=QWEN_9B)
FIT: dict[str, Any] = {"memory": 24_000_000_000, "context": 32768, "kv_type": "q8_0"}
ALL: list[Variant] = [
    {"ftype": "Q4_K_M"},
    {"bpw": 4.5, "type_set": "kquants"},
    {"size": 5_000_000_000},
    {"match": "Q4_K_M"},
    {"fit": FIT},
]


def sized(*variants: Variant) -> Plan:
    return plan(SOURCES, calibration=CALIBRATION, variants=[*variants])


def test_each_is_quantized_by_the_target_stage_with_the_imatrix() -> None:
    made = sized(*ALL)

    for key in ("4.5bpw", "5GB", "Q4_K_M-matched", "fit-24GB-32768"):
        step = made.step(f"quantize/{key}")
        assert step.stage is quantize_target.STAGE
        assert step.inputs["imatrix"] == OutputRef(step="imatrix", output="imatrix")
        assert made.step(f"kld/{key}").inputs["model"] == OutputRef(
            step=f"quantize/{key}", output="gguf"
        )
    assert made.step("quantize/4.5bpw").params == TargetParams(bpw=4.5, type_set="kquants")


def test_a_match_is_an_input_and_no_parameter() -> None:
    step = sized(*ALL).step("quantize/Q4_K_M-matched")

    assert step.params == TargetParams()
    assert step.inputs["match"] == OutputRef(step="quantize/Q4_K_M", output="gguf")


def test_a_match_is_to_the_candidate_that_is_kept() -> None:
    several = {"ftype": "Q4_K_M", "candidates": [{"ftype": "Q4_K_S"}]}

    step = sized(several, {"match": "Q4_K_M"}).step("quantize/Q4_K_M-matched")

    assert step.inputs["match"] == OutputRef(step="select/Q4_K_M", output="gguf")


def test_a_match_to_another_publishers_file_waits_for_its_check() -> None:
    theirs = leaf("theirs.gguf", size_bytes=6_000_000_000)
    sources = replace(SOURCES, references=(theirs,))
    made = plan(
        sources,
        calibration=CALIBRATION,
        references=[{"name": "theirs", "path": "theirs.gguf"}],
        variants=[{"match": "theirs"}],
    )

    step = made.step("quantize/theirs-matched")

    assert step.inputs["match"] == theirs
    assert step.after == ("reference-file/theirs",)
    assert wish(step) == "the bpw of theirs.gguf"
    sizes = {s.key: s.output_bytes for s in budget(made, sources).steps}
    assert sizes["quantize/theirs-matched"] == 6_000_000_000


def test_another_file_to_match_is_another_step_and_so_is_another_memory() -> None:
    def ids(*variants: Variant) -> dict[str, str]:
        return fingerprints(sized(*variants), identity=identity, machine="here")

    one = ids({"ftype": "Q4_K_M", "name": "a"}, {"match": "a"}, {"fit": FIT, "name": "f"})
    two = ids(
        {"ftype": "Q5_K_M", "name": "a"},
        {"match": "a"},
        {"fit": {**FIT, "context": 9}, "name": "f"},
    )

    assert one["quantize/a-matched"] != two["quantize/a-matched"]
    assert one["quantize/f"] != two["quantize/f"]


def test_the_memory_of_a_context_is_asked_for_once() -> None:
    made = plan(
        SOURCES,
        calibration=CALIBRATION,
        variants=[{"fit": FIT, "name": "a"}, {"fit": {**FIT, "memory": 10**10}, "name": "b"}],
        memory={"contexts": [4096, 32768], "kv_type": "q8_0"},
    )

    asked = [step for step in made.steps if step.stage is memory.STAGE]

    assert [step.key for step in asked] == ["memory/4096-q8_0", "memory/32768-q8_0"]
    assert asked[1].params == MemoryParams(n_ctx=32768, kv_type="q8_0")
    assert made.step("quantize/a").inputs["memory"] == OutputRef(
        step="memory/32768-q8_0", output=RECORD
    )


def test_the_size_is_predicted_from_what_is_asked() -> None:
    made = sized(*ALL)
    sizes = {step.key: step.output_bytes for step in budget(made, SOURCES).steps}

    assert sizes["quantize/4.5bpw"] == 9_000_000_000 * 4.5 / 8
    assert sizes["quantize/5GB"] == 5_000_000_000
    assert sizes["quantize/Q4_K_M-matched"] == sizes["quantize/Q4_K_M"]
    assert sizes["quantize/fit-24GB-32768"] == 24_000_000_000  # at most


def test_a_plan_says_what_each_is_asked_for() -> None:
    made = sized(*ALL)

    assert [wish(made.step(f"quantize/{v}")) for v in ("Q4_K_M", "4.5bpw", "5GB")] == [
        None, "at most 4.5 bpw", "at most 5GB",
    ]  # fmt: skip
    assert wish(made.step("quantize/Q4_K_M-matched")) == "the bpw of quantize/Q4_K_M"
    assert wish(made.step("quantize/fit-24GB-32768")) == "within 24GB beside memory/32768-q8_0"
