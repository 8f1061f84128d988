"""Measured sensitivities in a plan: check the text, probe, measure curves, put them together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from llamacpp_pipeline.config.schema import PipelineConfig
from llamacpp_pipeline.config.variants import VariantConfig
from llamacpp_pipeline.errors import ConfigError
from llamacpp_pipeline.plan.sources import Sources
from llamacpp_pipeline.plan.step import Input, Leaf, OutputRef, Step
from llamacpp_pipeline.stages.check_probe import CheckProbeParams, text_name
from llamacpp_pipeline.stages.curves import CurvesParams
from llamacpp_pipeline.stages.probe import ProbeParams
from llamacpp_pipeline.stages.quantize_target import TargetParams
from llamacpp_pipeline.stages.refine import RefineParams
from llamacpp_pipeline.stages.sensitivity import SensitivityParams

if TYPE_CHECKING:
    from llamacpp_pipeline.plan.expansion import Expansion

FETCH = "fetch-sensitivity"
REFINE = "refine"
WEIGHTS = OutputRef(step="sensitivity", output="weights")
REPORT = OutputRef(step="sensitivity", output="report")


def sensitivity_steps(plan: Expansion, *, reference: Input, texts: list[Input]) -> Iterator[Step]:
    """From the probe text to the weights; `texts` are the calibration texts in order."""
    asked = plan.config.sensitivity
    if asked is None:
        return
    labels = tuple(text.label for text in plan.texts)
    compared = {"probe": plan.probe_text, "evaluation": plan.evaluation}
    compared |= {text_name(at): text for at, text in enumerate(texts)}
    yield plan.step("check-probe", params=CheckProbeParams(labels=labels), inputs=compared)

    inputs: dict[str, Input] = {"model": reference}
    if plan.imatrix is not None:
        inputs["imatrix"] = plan.imatrix
    after = ("check-imatrix",) if plan.config.imatrix is not None else ()
    params = ProbeParams(**{name: getattr(asked, name) for name in ProbeParams.model_fields})
    text = {"corpus": plan.probe_text}
    yield plan.step("probe", params=params, inputs=inputs | text, after=("check-probe", *after))
    yield plan.step("curves", params=CurvesParams(), inputs=inputs, after=after)
    both: dict[str, Input] = {
        "measurements": OutputRef(step="probe", output="measurements"),
        "curves": OutputRef(step="curves", output="curves"),
    }
    yield plan.step("sensitivity", params=SensitivityParams(), inputs=both)


def weights_of(variant: VariantConfig, config: PipelineConfig) -> OutputRef | None:
    """Whose sensitivities a variant by size is made with; None: llama-quantize's own prior."""
    if config.sensitivity is None or not variant.measured:
        return None
    if config.refines(variant):
        return OutputRef(step=f"{REFINE}/{variant.label}", output="weights")
    return WEIGHTS


def refinement(plan: Expansion, variant: VariantConfig, quantize: Step) -> Step:
    """What comes between the sensitivities and a variant; `quantize` is the step that makes it.

    Raises:
        ValueError: where nothing is refined.

    """
    asked = plan.config.sensitivity
    if asked is None or asked.refine is None or not isinstance(quantize.params, TargetParams):
        message = f"{variant.label}: nothing is refined"
        raise ValueError(message)
    own = (name for name in RefineParams.model_fields if name in type(asked).model_fields)
    values = {name: getattr(asked, name) for name in own} | asked.refine.model_dump()
    inputs = {name: value for name, value in quantize.inputs.items() if name != "weights"}
    inputs |= {"corpus": plan.probe_text, "sensitivities": REPORT, "measured": WEIGHTS}
    if plan.config.selection_text is not None:
        inputs["validation"] = plan.selection_text
    return plan.step(
        f"{REFINE}/{variant.label}",
        params=RefineParams(target=quantize.params, **values),
        inputs=inputs,
        after=(*quantize.after, *(("check-selection",) if "validation" in inputs else ())),
    )


def refuse_probing_on_others(sources: Sources) -> None:
    """Types chosen by what the evaluation text asks for would flatter the figures.

    Texts on the Hub are compared once they are here, by the step check-probe.

    Raises:
        ConfigError: where the probe text is the evaluation text or a calibration text.

    """
    probe = sources.sensitivity
    if not isinstance(probe, Leaf):
        return
    others = [("the evaluation text", sources.evaluation)]
    others += [("a calibration text", text) for text in sources.calibration]
    for name, other in others:
        if isinstance(other, Leaf) and other.digest == probe.digest:
            raise ConfigError(
                f"the probe text is {name}",
                evidence=(probe.label, other.label, f"sha256 of both: {probe.digest}"),
                hint="probe on another text: `sensitivity.corpus`",
            )
