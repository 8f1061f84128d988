"""A variant's candidates in a plan: each is made and measured, then a step keeps the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from llamacpp_pipeline.config.candidates import FIRST, SEPARATOR
from llamacpp_pipeline.config.schema import PipelineConfig
from llamacpp_pipeline.config.task_sets import task_sets
from llamacpp_pipeline.config.variants import VariantConfig
from llamacpp_pipeline.plan.selection_text import quality_key
from llamacpp_pipeline.plan.step import RECORD, Input, OutputRef, Step
from llamacpp_pipeline.plan.tasks import score_of
from llamacpp_pipeline.stages.select import (
    SelectParams,
    file_name,
    quality_name,
    score_name,
    size_name,
)

SELECT = "select"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One way to make a variant."""

    name: str
    variant: VariantConfig  # named `<variant>~<candidate>`
    text: str | None = None  # the calibration text whose imatrix alone it uses

    @property
    def quantize(self) -> str:
        """Key of the step that makes it."""
        return f"quantize/{self.variant.label}"

    @property
    def gguf(self) -> OutputRef:
        """Its file."""
        return OutputRef(step=self.quantize, output="gguf")

    def placed(self, step: Step) -> Step:
        """The step that makes it, with its own imatrix where it has one."""
        if self.text is None:
            return step
        matrix = OutputRef(step=f"imatrix/{self.text}", output="imatrix")
        return replace(step, inputs={**step.inputs, "imatrix": matrix})


def candidates_of(variant: VariantConfig) -> tuple[Candidate, ...]:
    """The variant itself first, then its candidates; none where it has none to choose from."""
    if not variant.candidates:
        return ()
    others = [
        Candidate(
            name=other.label,
            variant=_named(variant.candidate(other), variant.label, other.label),
            text=other.imatrix if isinstance(other.imatrix, str) else None,
        )
        for other in variant.candidates
    ]
    return (Candidate(name=FIRST, variant=_named(variant, variant.label, FIRST)), *others)


def _named(variant: VariantConfig, label: str, candidate: str) -> VariantConfig:
    # FileStem has no room for the separator, so that no variant of a user's can be called so.
    return variant.model_copy(update={"name": f"{label}{SEPARATOR}{candidate}", "candidates": ()})


def final_file(config: PipelineConfig, label: str) -> OutputRef:
    """The GGUF that a variant ends as, whatever makes it."""
    variant = next(variant for variant in config.variants if variant.label == label)
    kind = SELECT if variant.candidates else "quantize"
    return OutputRef(step=f"{kind}/{label}", output="gguf")


def sets_of(config: PipelineConfig) -> tuple[str, ...]:
    """The evaluation sets that every candidate is scored on."""
    if config.tasks is None or not config.selection.tasks:
        return ()
    return tuple(each.name for each in task_sets(config))


def selection_inputs(config: PipelineConfig, candidates: Sequence[Candidate]) -> dict[str, Input]:
    """What the decision needs of each: its file, and the records of its making and its figures."""
    inputs: dict[str, Input] = {}
    sets = sets_of(config)
    for at, one in enumerate(candidates):
        inputs[file_name(at)] = one.gguf
        inputs[size_name(at)] = OutputRef(step=one.quantize, output=RECORD)
        measured = quality_key(config, one.variant.label)
        inputs[quality_name(at)] = OutputRef(step=measured, output=RECORD)
        for number, name in enumerate(sets):
            score = score_of(one.variant.label, name)
            inputs[score_name(at, number)] = OutputRef(step=score, output=RECORD)
    return inputs


def selection_params(config: PipelineConfig, candidates: Sequence[Candidate]) -> SelectParams:
    """The candidates by name, in order."""
    names = tuple(one.name for one in candidates)
    larger_by, n_sets = config.selection.larger_by, len(sets_of(config))
    return SelectParams(names=names, larger_by=larger_by, n_sets=n_sets)
