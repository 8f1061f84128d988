"""What each published file says of itself: who made it, from what, by which recipe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from llamacpp_pipeline.config.schema import PipelineConfig
from llamacpp_pipeline.plan.fingerprint import fingerprints
from llamacpp_pipeline.plan.step import Plan, Step

HUB = "https://huggingface.co"
RECIPE = "llamacpp_pipeline.recipe.sha256"


def labelled(steps: tuple[Step, ...], config: PipelineConfig) -> tuple[Step, ...]:
    """The steps, those that make files for others with what the files are to say.

    `steps` are in an order in which they can run.
    """
    if not config.publish.labels_files:
        return steps
    shared, recipes = dict(labels_of(config)), recipes_of(steps)
    return tuple(
        step
        if step.stage.labels is None
        else replace(step, labels={**shared, RECIPE: recipes[step.key]})
        for step in steps
    )


def recipes_of(steps: tuple[Step, ...]) -> dict[str, str]:
    """What each step does, by its key: all of its fingerprint but the binaries and the machine.

    Whoever has the configuration and the sources gets the same, whatever llama.cpp is built.
    """
    return fingerprints(Plan(steps=steps), identity=lambda made_by: made_by, machine="")


def labels_of(config: PipelineConfig) -> Iterator[tuple[str, str | int]]:
    """The keys of GGUF's own specification, as far as the configuration knows them."""
    card, repo = config.card, config.publish.repo
    author = card.quantized_by or (None if repo is None else repo.partition("/")[0])
    if author is not None:
        yield "general.quantized_by", author
    if repo is not None:
        yield "general.repo_url", f"{HUB}/{repo}"
    if card.license is not None:
        yield "general.license", card.license
    base = card.base_model or config.model.repo
    if base is not None:
        owner, _, name = base.rpartition("/")
        yield "general.base_model.count", 1
        yield "general.base_model.0.name", name
        if owner:
            yield "general.base_model.0.organization", owner
        yield "general.base_model.0.repo_url", f"{HUB}/{base}"
