"""What each file says of its making: by default where it is published, hashed, never in the way."""

from __future__ import annotations

from dataclasses import replace

from llamacpp_pipeline.plan.fingerprint import document, fingerprints
from llamacpp_pipeline.plan.provenance import RECIPE
from llamacpp_pipeline.plan.sources import HubCommit
from llamacpp_pipeline.stages.base import MadeBy
from tests.unit.plan.world import COMMIT, HERE, identity, leaf, plan

PUBLISH = {"publish": {"repo": "me/Model-GGUF"}}


def other_build(made_by: MadeBy) -> str:
    return f"another {made_by}"


def test_a_file_that_is_not_published_says_nothing_and_is_hashed_as_ever() -> None:
    step = plan().step("quantize/Q8_0")
    known = {"convert": "f" * 64}

    assert step.labels == {}
    assert "labels" not in document(step, known=known, identity=identity, machine="m")


def test_a_published_file_says_who_made_it_from_what() -> None:
    made = plan(
        replace(HERE, model=HubCommit(commit=COMMIT)),
        model={"repo": "Qwen/Qwen3.5-9B"},
        card={"quantized_by": "Me", "license": "apache-2.0"},
        **PUBLISH,
    )

    labels = dict(made.step("quantize/Q8_0").labels)
    recipe = labels.pop(RECIPE)

    assert labels == {
        "general.quantized_by": "Me",
        "general.repo_url": "https://huggingface.co/me/Model-GGUF",
        "general.license": "apache-2.0",
        "general.base_model.count": 1,
        "general.base_model.0.name": "Qwen3.5-9B",
        "general.base_model.0.organization": "Qwen",
        "general.base_model.0.repo_url": "https://huggingface.co/Qwen/Qwen3.5-9B",
    }
    assert isinstance(recipe, str)
    assert len(recipe) == 64
    assert [s.key for s in made.steps if s.labels] == ["quantize/Q8_0", "quantize/Q4_K_M"]


def test_the_owner_of_the_repository_made_it_where_nobody_else_is_named() -> None:
    labels = plan(HERE, **PUBLISH).step("quantize/Q8_0").labels

    assert labels["general.quantized_by"] == "me"
    assert "general.license" not in labels
    assert "general.base_model.count" not in labels


def test_labels_can_be_had_without_a_repository_and_left_out_with_one() -> None:
    alone = plan(publish={"label_files": True}).step("quantize/Q8_0").labels

    assert set(alone) == {RECIPE}
    assert plan(publish={"repo": "me/x", "label_files": False}).step("quantize/Q8_0").labels == {}


def test_what_a_file_says_is_a_part_of_its_identity() -> None:
    def prints(**said: object) -> dict[str, str]:
        return fingerprints(plan(HERE, **said), identity=identity, machine="m")

    without, named = prints(), prints(**PUBLISH)

    assert without["convert"] == named["convert"]
    assert without["quantize/Q8_0"] != named["quantize/Q8_0"]
    assert prints(publish={"repo": "me/Other"})["quantize/Q8_0"] != named["quantize/Q8_0"]


def test_the_recipe_is_of_what_is_done_and_not_of_the_build_or_the_words() -> None:
    def recipe(key: str = "quantize/Q8_0", model: str = "model", **said: object) -> object:
        sources = replace(HERE, model=leaf(model))
        return plan(sources, **{**PUBLISH, **said}).step(key).labels[RECIPE]

    first = recipe()

    assert recipe(publish={"repo": "somebody/else"}) == first
    assert recipe(card={"quantized_by": "Other"}) == first
    assert recipe(key="quantize/Q4_K_M") != first
    assert recipe(model="another") != first
    assert recipe(convert={"outtype": "f32"}) != first


def test_the_recipe_does_not_know_the_machine() -> None:
    steps = plan(HERE, **PUBLISH)

    ours = fingerprints(steps, identity=identity, machine="m")
    theirs = fingerprints(steps, identity=other_build, machine="n")

    assert ours["quantize/Q8_0"] != theirs["quantize/Q8_0"]  # made by other binaries
    assert steps.step("quantize/Q8_0").labels == plan(HERE, **PUBLISH).step("quantize/Q8_0").labels
