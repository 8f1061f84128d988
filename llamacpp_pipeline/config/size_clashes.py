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
        if variant.kld is not None:
            found = kld_clashes(config, variant)
            yield from ((("variants", at, *path), text) for path, text in found)
        elif variant.way != "ftype" and variant.imatrix and not at_hand:
            yield ("variants", at, variant.way), NO_IMATRIX
        if variant.match is not None:
            wrong = wrong_match(variant, variants=variants, others=others)
            if wrong is not None:
                yield ("variants", at, "match"), wrong


NO_IMATRIX = (
    "a size is met best with an importance matrix and there is none: give `calibration` or"
    " `imatrix`, or say `imatrix: false` here to judge types by the weights alone"
)


def kld_clashes(config: PipelineConfig, variant: VariantConfig) -> Iterator[tuple[Path, str]]:
    """Why the KLD of a variant, or of one of its candidates, cannot be predicted."""
    wrong = unpredictable(config, variant)
    if wrong is not None:
        yield wrong
        return
    for at, candidate in enumerate(variant.candidates):
        if not candidate.starts_afresh and candidate.sensitivity == "prior":
            yield ("candidates", at, "sensitivity"), PRIOR_HAS_NO_KLD
        if not candidate.starts_afresh and candidate.imatrix is False:
            yield ("candidates", at, "imatrix"), UNLIKE_THE_PROBE


def unpredictable(config: PipelineConfig, variant: VariantConfig) -> tuple[Path, str] | None:
    """What the prediction of a KLD lacks; None where it has all."""
    if config.sensitivity is None:
        return ("kld",), NOTHING_PREDICTS
    if variant.sensitivity == "prior":
        return ("sensitivity",), PRIOR_HAS_NO_KLD
    if not variant.imatrix:
        return ("imatrix",), UNLIKE_THE_PROBE
    if config.calibration is None and config.imatrix is None:
        return ("kld",), NO_IMATRIX_FOR_KLD
    return None


NOTHING_PREDICTS = (
    "nothing predicts a KLD: add a section `sensitivity` with a `corpus`, or ask for a size"
    " (bpw, size, fit, match)"
)
PRIOR_HAS_NO_KLD = (
    "the prior ranks types and predicts no KLD: leave `sensitivity: prior` out, or ask for a size"
)
UNLIKE_THE_PROBE = (
    "what predicts a KLD was measured with the importance matrix: leave this out, or ask for a size"
)
NO_IMATRIX_FOR_KLD = (
    "a KLD is predicted for files made with an importance matrix and there is none: give"
    " `calibration` or `imatrix`"
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
