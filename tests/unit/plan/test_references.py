"""Other publishers' files in a plan: fetched, checked, measured as variants are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llamacpp_pipeline.plan.references import references_of
from llamacpp_pipeline.plan.sources import HubCommit
from llamacpp_pipeline.plan.step import OutputRef
from llamacpp_pipeline.stages.fetch import FetchParams
from tests.unit.plan.world import COMMIT, HERE, config, leaf, plan

LOCAL = {"name": "theirs", "path": "theirs.gguf"}
ON_THE_HUB = {"name": "theirs", "repo": "them/GGUF", "file": "sub/t-Q4_K_M.gguf"}


def test_a_local_file_is_checked_before_it_is_measured() -> None:
    made = plan(replace(HERE, references=(leaf("theirs.gguf"),)), references=[LOCAL])

    assert [s.key for s in made.steps][-3:] == [
        "reference-file/theirs",
        "kld/theirs",
        "bench/theirs",
    ]
    reference = OutputRef(step="convert", output="gguf")
    theirs = leaf("theirs.gguf")
    assert made.step("reference-file/theirs").inputs == {"model": reference, "file": theirs}
    assert made.step("kld/theirs").inputs["model"] == theirs
    assert made.step("kld/theirs").params == made.step("kld/Q8_0").params
    for key in ("kld/theirs", "bench/theirs"):
        assert made.step(key).after == ("reference-file/theirs",)


def test_a_file_on_the_hub_is_fetched_at_its_commit() -> None:
    sources = replace(HERE, references=(HubCommit(commit=COMMIT),))

    made = plan(sources, references=[{**ON_THE_HUB, "sha256": "a" * 64}])

    fetched = OutputRef(step="fetch-reference/theirs", output="files", member="sub/t-Q4_K_M.gguf")
    assert made.step("fetch-reference/theirs").params == FetchParams(
        repo="them/GGUF", commit=COMMIT, files=("sub/t-Q4_K_M.gguf",), sha256="a" * 64
    )
    assert made.step("reference-file/theirs").inputs["file"] == fetched
    assert made.step("kld/theirs").inputs["model"] == fetched


def test_another_step_can_take_the_file_as_its_input() -> None:
    (file,) = references_of(
        config(references=[ON_THE_HUB]), replace(HERE, references=(HubCommit(commit=COMMIT),))
    )

    assert file.check == "reference-file/theirs"
    assert file.file == OutputRef(
        step="fetch-reference/theirs", output="files", member="sub/t-Q4_K_M.gguf"
    )


def test_a_reference_that_nobody_resolved_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="no reference was resolved, of 1"):
        plan(HERE, references=[LOCAL])
