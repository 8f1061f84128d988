"""Every published recipe expands to a plan; the commits stand for what the Hub would say."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamacpp_pipeline.config.choose import CONFIGS
from llamacpp_pipeline.config.load import load
from llamacpp_pipeline.config.schema import PipelineConfig
from llamacpp_pipeline.config.task_sets import task_sets
from llamacpp_pipeline.plan.expand import expand
from llamacpp_pipeline.plan.sources import HubCommit, Sources
from llamacpp_pipeline.plan.step import Plan
from llamacpp_pipeline.plan.targets import wish
from llamacpp_pipeline.stages import quantize_target

COMMIT = HubCommit(commit="0" * 40)
RECIPES = sorted(CONFIGS.glob("Qwen*.yaml"))


def planned(config: PipelineConfig) -> Plan:
    texts = () if config.calibration is None else (COMMIT,) * len(config.calibration.each)
    given = None if config.imatrix is None else COMMIT
    parts = {part.name: COMMIT for asked in task_sets(config) for part in asked.parts}
    sources = Sources(
        model=COMMIT,
        evaluation=COMMIT,
        calibration=texts,
        imatrix=given,
        references=(COMMIT,) * len(config.references),
        datasets=parts,
    )
    return expand(config, sources)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_variant_of_a_recipe_is_made_and_measured(recipe: Path) -> None:
    config = load(recipe).config

    steps = {step.key: step for step in planned(config).steps}

    assert {"fetch", "convert", "reference", "kld/reference"} <= steps.keys()
    for variant in config.variants:
        assert {f"{kind}/{variant.label}" for kind in ("quantize", "kld", "bench")} <= steps.keys()
        assert ("imatrix" in steps[f"quantize/{variant.label}"].inputs) == variant.imatrix
    for reference in config.references:
        assert {f"{kind}/{reference.name}" for kind in ("kld", "bench")} <= steps.keys()


def wishes(recipe: str) -> dict[str, str]:
    """What each file by size is asked for."""
    made = planned(load(CONFIGS / recipe).config)
    return {
        step.key.removeprefix("quantize/"): wish(step) or ""
        for step in made.steps
        if step.stage is quantize_target.STAGE
    }


def test_the_9b_is_matched_to_standard_and_to_other_publishers_files() -> None:
    found = wishes("Qwen3.5-9B.yaml")

    standard = ("IQ1_M", "IQ2_M", "Q6_K", "Q8_0")
    naive = {name: f"the bpw of quantize/{name}-naive" for name in standard}
    naive |= {name: f"the bpw of quantize/{name}_M-naive" for name in ("Q3_K", "Q4_K", "Q5_K")}
    theirs = {
        "Q4_K-B": "the bpw of fetch-reference/Q4_K_M-bartowski",
        "Q4_K-U": "the bpw of fetch-reference/Q4_K_M-unsloth",
    }
    assert found == {**naive, **theirs}


def test_the_35b_is_a_ladder_and_a_file_for_a_memory() -> None:
    assert wishes("Qwen3.6-35B-A3B.yaml") == {
        "Q1_L": "at most 1.75 bpw", "Q2_K": "at most 2.5 bpw", "Q3_K": "at most 3.5 bpw",
        "Q4_K": "at most 4.5 bpw", "Q5_K": "at most 5.5 bpw", "Q6_K": "at most 6.5 bpw",
        "Q7_K": "at most 7.5 bpw", "Q8_0": "at most 8.5 bpw",
        "fit-24GB": "within 24GB beside memory/32768-q8_0",
    }  # fmt: skip


def test_the_demo_has_a_matched_file_and_one_by_bits() -> None:
    config = load(CONFIGS / "demo.yaml").config

    assert {variant.way for variant in config.variants} == {"ftype", "match", "bpw"}
