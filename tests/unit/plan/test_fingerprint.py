"""Identity is what made it: what changes a fingerprint, what does not, and how that is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pytest

from llamacpp_pipeline.plan.fingerprint import (
    Document,
    canonical,
    documents,
    explain,
    fingerprint,
    fingerprints,
)
from llamacpp_pipeline.plan.sources import Sources
from llamacpp_pipeline.plan.step import OutputRef, Plan
from llamacpp_pipeline.stages.base import ADDED_LATER, Frozen, MadeBy
from llamacpp_pipeline.stages.quantize_target import TargetParams
from tests.unit.plan.world import CALIBRATED, CALIBRATION, HERE, identity, leaf, plan

MACHINE = "a CPU (2 cores)"
SELECTIVE = {"ftype": "Q4_K_M", "tensor_types": {"ssm_out": "q8_0", "attn": "q6_K"}}


def known(made: Plan, machine: str = MACHINE) -> dict[str, str]:
    return fingerprints(made, identity=identity, machine=machine)


def changed(before: Plan, after: Plan) -> set[str]:
    one, other = known(before), known(after)
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


def told(before: Plan, after: Plan, key: str) -> tuple[str, ...]:
    return explain(documented(before)[key], documented(after)[key])


def documented(made: Plan) -> dict[str, Document]:
    return documents(made, identity=identity, machine=MACHINE)


class TestWhatChangesIt:
    def test_a_fingerprint_is_a_whole_sha256(self) -> None:
        assert {len(value) for value in known(plan()).values()} == {64}

    def test_it_is_the_same_every_time(self) -> None:
        assert known(plan()) == known(plan())

    def test_no_two_steps_share_one(self) -> None:
        values = list(known(plan(CALIBRATED, calibration=CALIBRATION)).values())

        assert len(set(values)) == len(values)

    def test_another_cut_of_the_text_leaves_the_files_alone(self) -> None:
        after = plan(evaluation={"corpus": {"demo": "evaluation"}, "n_ctx": 128})

        assert changed(plan(), after) == {
            "reference",
            "kld/reference",
            "kld/Q8_0",
            "kld/Q4_K_M",
        }

    def test_another_conversion_changes_all_that_follows_from_it(self) -> None:
        after = plan(convert={"outtype": "bf16"})

        assert set(known(plan())) - changed(plan(), after) == {"inspect", "weights"}

    def test_another_recipe_changes_that_variant_alone(self) -> None:
        one = plan(variants=[{"ftype": "Q8_0"}, {"name": "b", "ftype": "Q4_K_M"}])
        other = plan(variants=[{"ftype": "Q8_0"}, {"name": "b", "ftype": "Q5_K_M"}])

        assert changed(one, other) == {"quantize/b", "kld/b", "bench/b"}

    def test_another_build_changes_what_binaries_make(self) -> None:
        def other(made_by: MadeBy) -> str:
            return "another build" if made_by == "binary" else identity(made_by)

        after = fingerprints(plan(), identity=other, machine=MACHINE)

        same = {key for key, value in known(plan()).items() if value == after[key]}
        assert same == {"inspect", "weights", "convert"}

    def test_the_order_of_tensor_types_is_meaning(self) -> None:
        turned = {**SELECTIVE, "tensor_types": {"attn": "q6_K", "ssm_out": "q8_0"}}

        assert "quantize/Q4_K_M" in changed(plan(variants=[SELECTIVE]), plan(variants=[turned]))

    def test_a_stage_version_changes_it(self) -> None:
        before = plan()
        steps = tuple(
            replace(step, stage=replace(step.stage, version=step.stage.version + 1))
            if step.key == "kld/Q8_0"
            else step
            for step in before.steps
        )

        assert changed(before, Plan(steps=steps)) == {"kld/Q8_0"}

    def test_another_member_of_a_folder_changes_it(self) -> None:
        before = plan()
        step = before.step("kld/Q8_0")
        inner = OutputRef(step="convert", output="gguf", member="inner.gguf")
        moved = replace(step, inputs={**step.inputs, "model": inner})
        steps = tuple(moved if s.key == step.key else s for s in before.steps)

        assert changed(before, Plan(steps=steps)) == {"kld/Q8_0"}


class TestWhatDoesNot:
    def test_names_and_places_of_leaves(self) -> None:
        moved = replace(
            HERE, evaluation=replace(leaf("wiki.test.raw"), path=Path("/elsewhere"), label="other")
        )

        assert changed(plan(), plan(moved)) == set()

    def test_the_name_of_a_variant(self) -> None:
        one = known(plan(variants=[{"ftype": "Q4_K_M"}]))
        other = known(plan(variants=[{"ftype": "Q4_K_M", "name": "mine"}]))

        assert one["quantize/Q4_K_M"] == other["quantize/mine"]
        assert one["kld/Q4_K_M"] == other["kld/mine"]

    def test_a_default_that_is_written_out(self) -> None:
        written = plan(evaluation={"corpus": {"demo": "evaluation"}, "n_ctx": 256, "n_batch": 2048})

        assert changed(plan(), written) == set()

    def test_the_other_variants(self) -> None:
        assert changed(plan(), plan(variants=[{"ftype": "Q4_K_M"}])) == {
            "quantize/Q8_0",
            "kld/Q8_0",
            "bench/Q8_0",
        }

    def test_placement_and_machine_but_for_bench(self) -> None:
        assert changed(plan(), plan(placement={"n_threads": 7})) == {
            "bench/reference",
            "bench/Q8_0",
            "bench/Q4_K_M",
        }
        one, other = known(plan()), known(plan(), machine="another")
        assert {key for key in one if one[key] != other[key]} == {
            "bench/reference",
            "bench/Q8_0",
            "bench/Q4_K_M",
        }


class TestExplain:
    def test_a_parameter(self) -> None:
        after = plan(evaluation={"corpus": {"demo": "evaluation"}, "n_ctx": 128})

        assert told(plan(), after, "reference") == ("params.n_ctx: 256 -> 128",)

    def test_an_input_that_another_step_makes(self) -> None:
        before, after = plan(), plan(convert={"outtype": "bf16"})
        one, other = known(before)["convert"][:12], known(after)["convert"][:12]

        assert told(before, after, "convert") == ("params.outtype: auto -> bf16",)
        assert told(before, after, "quantize/Q8_0") == (
            f"inputs.model.step: {one}... -> {other}...",
        )

    def test_an_input_that_was_not_there(self) -> None:
        (line,) = (
            line
            for line in told(plan(), plan(CALIBRATED, calibration=CALIBRATION), "quantize/Q8_0")
            if line.startswith("inputs.imatrix.output")
        )

        assert line == "inputs.imatrix.output: (absent) -> imatrix"

    def test_a_text(self) -> None:
        after = plan(Sources(model=leaf("model"), evaluation=leaf("zebra.txt")))

        (line,) = told(plan(), after, "reference")

        assert line.startswith("inputs.corpus.digest: 77696b692e74... -> 7a656272612e...")

    def test_the_order_of_patterns(self) -> None:
        turned = {**SELECTIVE, "tensor_types": {"attn": "q6_K", "ssm_out": "q8_0"}}

        assert told(plan(variants=[SELECTIVE]), plan(variants=[turned]), "quantize/Q4_K_M") == (
            "params.tensor_types: {ssm_out: q8_0, attn: q6_K} -> {attn: q6_K, ssm_out: q8_0}",
        )

    def test_the_build(self) -> None:
        one = documented(plan())["reference"]
        other = {**one, "made_by": ["binary", "another build"]}

        assert explain(one, other) == (
            'made_by: ["binary", "the binary"] -> ["binary", "another build"]',
        )

    def test_nothing(self) -> None:
        assert told(plan(), plan(), "reference") == ()

    def test_documents_that_hash_alike_are_alike(self) -> None:
        for key, document in documented(plan()).items():
            assert fingerprint(document) == known(plan())[key]


class Odd(Frozen):
    value: Any = None


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(Path("a"), id="path"),
        pytest.param(float("nan"), id="nan"),
        pytest.param(float("inf"), id="infinity"),
        pytest.param(b"a", id="bytes"),
        pytest.param({1, 2}, id="set"),
    ],
)
def test_what_has_no_one_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="cannot be part of a fingerprint"):
        canonical(Odd(value=value))


def test_structures_of_different_kinds_never_look_alike() -> None:
    forms = [
        canonical(Odd(value="1")),
        canonical(Odd(value=1)),
        canonical(Odd(value={"value": "1"})),
        canonical(Odd(value=[["value", "1"]])),
        canonical(Odd(value=Odd(value="1"))),
        canonical(Odd(value=None)),
        canonical(Odd(value=True)),
    ]

    assert len({fingerprint(form) for form in forms}) == len(forms)


class Older(Frozen):
    n: int | None = None


class Newer(Frozen):
    n: int | None = None
    later: Annotated[int | None, ADDED_LATER] = None


def test_a_parameter_that_was_added_later_is_hashed_where_it_is_used() -> None:
    assert canonical(Newer()) == canonical(Older())
    assert canonical(Newer(later=0)) != canonical(Older())
    assert canonical(Newer(later=1)) != canonical(Newer(later=2))


def test_a_file_by_size_is_known_by_what_it_was_before_it_could_be_asked_for_by_kld() -> None:
    said = canonical(TargetParams(bpw=4.5))
    assert "kld" not in said
    assert canonical(TargetParams(kld=0.01))["kld"] == 0.01
    before = "d6363f48"  # the same, computed before there was `kld`
    assert fingerprint(said)[:8] == before
