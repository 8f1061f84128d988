"""One variant's file in a plan: by a file type or by size, and what its types are refined by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from llamacpp_pipeline.config.variants import VariantConfig
from llamacpp_pipeline.plan.expansion import REFERENCE, Expansion, part
from llamacpp_pipeline.plan.sensitivity import refinement, weights_of
from llamacpp_pipeline.plan.step import Input, Step
from llamacpp_pipeline.plan.targets import measure_of, target_params
from llamacpp_pipeline.stages import quantize_target
from llamacpp_pipeline.stages.base import Frozen
from llamacpp_pipeline.stages.quantize import QuantizeParams

NOTHING = Frozen()


def quantized(plan: Expansion, variant: VariantConfig) -> Iterator[Step]:
    """One variant's file, and before it what its types are refined by."""
    step = quantization(plan, variant)
    if plan.config.refines(variant):
        yield refinement(plan, variant, step)
    yield step


def quantization(plan: Expansion, variant: VariantConfig) -> Step:
    """One variant's file."""
    inputs: dict[str, Input] = {"model": REFERENCE}
    matrix = plan.imatrix
    if variant.imatrix and matrix is not None:
        inputs["imatrix"] = matrix
    checked = ("check-imatrix",) if "imatrix" in inputs and plan.config.imatrix else ()
    key = f"quantize/{variant.label}"
    if variant.way != "ftype":
        return sized(plan, variant, plan.step(key, params=NOTHING, inputs=inputs, after=checked))
    params = part(QuantizeParams, variant)
    return plan.step(key, params=params, inputs=inputs, after=checked)


def sized(plan: Expansion, variant: VariantConfig, step: Step) -> Step:
    """The same for a variant that is asked for by its size."""
    inputs, after = dict(step.inputs), step.after
    measure = measure_of(variant, plan.config, plan.sources)
    if measure is not None:
        inputs[measure.name] = measure.source
        after = (*after, *measure.after)
    measured = weights_of(variant, plan.config)
    if measured is not None:
        inputs["weights"] = measured
    params, stage = target_params(variant), quantize_target.STAGE
    return replace(step, stage=stage, params=params, inputs=inputs, after=after)
