"""A finished run's configuration as one that makes the same files again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llamacpp_pipeline.config.choose import CONFIGS
from llamacpp_pipeline.config.load import load
from llamacpp_pipeline.config.replay import (
    names_no_file,
    replayed,
    with_imatrix,
    without_evaluation,
)
from llamacpp_pipeline.config.schema import PipelineConfig
from tests.unit.plan.world import config

COMMIT = "c" * 40
THEIRS = {"name": "theirs", "repo": "them/GGUF", "file": "t.gguf"}


def dumped(**said: object) -> dict[str, Any]:
    return config(**said).model_dump(mode="json")


def test_every_repository_is_pinned_to_the_commit_that_was_used() -> None:
    hub = {"repo": "texts/train", "repo_type": "dataset", "file": "t.txt"}
    whole = dumped(model={"repo": "a/Model"}, calibration={"corpus": {"hub": hub}})

    found = replayed(whole, commits={"a/Model": COMMIT, "texts/train": "d" * 40})

    assert found["model"]["revision"] == COMMIT
    assert found["calibration"]["corpus"]["hub"]["revision"] == "d" * 40


def test_what_no_file_depends_on_is_left_out() -> None:
    whole = dumped(
        references=[THEIRS],
        card={"compare": [{"variant": "Q8_0", "against": "theirs"}], "license": "mit"},
    )

    found = replayed(whole, commits={})

    assert found["references"] == []
    assert found["bench"] is None
    assert found["card"]["compare"] == []
    assert found["card"]["license"] == "mit"  # it may be written into the files
    assert found["variants"] == whole["variants"]
    PipelineConfig.model_validate(found)


def test_a_text_that_is_not_at_hand_is_stood_in_for() -> None:
    whole = dumped(evaluation={"corpus": {"path": "mine.txt"}, "n_ctx": 256})

    assert names_no_file(whole, (), "evaluation.corpus.path")
    assert not names_no_file(whole, ("evaluation.corpus.path=x",), "evaluation.corpus.path")
    assert not names_no_file(dumped(), (), "evaluation.corpus.path")
    assert without_evaluation(whole)["evaluation"] == {
        **whole["evaluation"],
        "corpus": {"demo": "evaluation"},
    }


def test_a_published_imatrix_takes_the_place_of_its_text() -> None:
    found = with_imatrix(dumped(calibration={"corpus": {"demo": "calibration"}}), "imatrix.gguf")

    assert found["calibration"] is None
    assert found["imatrix"] == {"path": "imatrix.gguf"}


RECIPES = [path.name for path in sorted(CONFIGS.glob("*.yaml")) if path.name != "defaults.yaml"]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_made_again_from_what_a_manifest_keeps_of_it(
    name: str, tmp_path: Path
) -> None:
    first = load(CONFIGS / name).config
    manifest = json.loads(json.dumps(first.model_dump(mode="json")))

    (tmp_path / "again.yaml").write_text(json.dumps(replayed(manifest, commits={})))
    again = load(tmp_path / "again.yaml").config

    kept = ("model", "convert", "evaluation", "calibration", "imatrix", "variants", "publish")
    assert {key: getattr(again, key) for key in kept} == {key: getattr(first, key) for key in kept}


def test_a_text_to_choose_on_is_needed_only_where_there_is_a_choice() -> None:
    selection = {"corpus": {"path": "choose.txt"}}
    choice = {"ftype": "Q4_K_M", "candidates": ["Q4_K_S"]}

    assert "selection" not in replayed(dumped(selection=selection), commits={})
    kept = replayed(dumped(selection=selection, variants=[choice]), commits={})
    assert kept["selection"]["corpus"]["path"] == "choose.txt"


def test_a_text_that_measured_types_were_validated_on_is_kept() -> None:
    said = {
        "selection": {"corpus": {"path": "choose.txt"}},
        "calibration": {"corpus": {"demo": "calibration"}},
        "sensitivity": {"corpus": {"demo": "probe"}},
        "variants": [{"kld": 0.01}],
    }
    found = replayed(dumped(**said), commits={})
    assert found["selection"]["corpus"]["path"] == "choose.txt"
    assert found["bench"] is None
    again = PipelineConfig.model_validate(found)
    assert again.selection_text is not None
    assert again.variants[0].kld == 0.01
