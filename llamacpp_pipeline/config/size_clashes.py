"""What can be wrong between a variant that is asked for by size and the rest of the YAML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from llamacpp_pipeline.config.spelling import did_you_mean

if TYPE_CHECKING:
    from llamacpp_pipeline.config.schema import PipelineConfig
    from llamacpp_pipeline.config.variants import VariantConfig

Path = tuple[str | int, ...]


def size_clashes(config: PipelineConfig) -> Iterator[tuple[Path, str]]:
    """Places and messages, in the order of the variants."""
    variants = {variant.label: variant for variant in config.variants}
    others = tuple(reference.name for reference in config.references)
    at_hand = config.calibration is not None or config.imatrix is not None
    for at, variant in enumerate(config.variants):
        if variant.way != "ftype" and variant.imatrix and not at_hand:
            yield ("variants", at, variant.way), NO_IMATRIX
        if variant.match is not None:
            wrong = wrong_match(variant, variants=variants, others=others)
            if wrong is not None:
                yield ("variants", at, "match"), wrong


NO_IMATRIX = (
    "a size is met best with an importance matrix and there is none: give `calibration` or"
    " `imatrix`, or say `imatrix: false` here to judge types by the weights alone"
)


def wrong_match(
    variant: VariantConfig, *, variants: Mapping[str, VariantConfig], others: tuple[str, ...]
) -> str | None:
    """What is wrong with what a variant is matched to."""
    wanted = variant.match or ""
    if wanted == variant.label:
        return f"{wanted} is matched to itself: name another variant, or a reference"
    if wanted in others:
        return None
    if wanted not in variants:
        near = did_you_mean(wanted, (*variants, *others))
        return f"no variant and no reference is named {wanted}{near}"
    further = variants[wanted].match
    if further is not None:
        return f"{wanted} is itself matched to {further}: name that instead"
    return None
