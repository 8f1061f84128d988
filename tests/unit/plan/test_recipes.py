"""Every published recipe expands to a plan; the commits stand for what the Hub would say."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamacpp_pipeline.config.choose import CONFIGS
from llamacpp_pipeline.config.load import load
from llamacpp_pipeline.plan.expand import expand
from llamacpp_pipeline.plan.sources import HubCommit, Sources

COMMIT = HubCommit(commit="0" * 40)
RECIPES = sorted(CONFIGS.glob("Qwen*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_variant_of_a_recipe_is_made_and_measured(recipe: Path) -> None:
    config = load(recipe).config
    texts = () if config.calibration is None else (COMMIT,) * len(config.calibration.each)
    given = None if config.imatrix is None else COMMIT
    sources = Sources(model=COMMIT, evaluation=COMMIT, calibration=texts, imatrix=given)

    steps = {step.key: step for step in expand(config, sources).steps}

    assert {"fetch", "convert", "reference", "kld/reference"} <= steps.keys()
    for variant in config.variants:
        assert {f"{kind}/{variant.label}" for kind in ("quantize", "kld", "bench")} <= steps.keys()
        assert ("imatrix" in steps[f"quantize/{variant.label}"].inputs) == variant.imatrix
