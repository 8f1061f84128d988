"""Variants by size in a plan: their parameters, and the inputs on which their size depends."""

from __future__ import annotations

from dataclasses import dataclass

from llamacpp_pipeline.config.schema import PipelineConfig
from llamacpp_pipeline.config.sizes import size_label
from llamacpp_pipeline.config.variants import VariantConfig
from llamacpp_pipeline.plan.candidates import final_file
from llamacpp_pipeline.plan.references import references_of
from llamacpp_pipeline.plan.sensitivity import REPORT
from llamacpp_pipeline.plan.sources import Sources
from llamacpp_pipeline.plan.step import RECORD, Input, Leaf, OutputRef, Step
from llamacpp_pipeline.stages.memory import KvType, MemoryParams
from llamacpp_pipeline.stages.quantize_target import TargetParams, TargetRules


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What a variant's size is taken from, where it is late-bound."""

    name: str  # of the stage's input: match, memory or sensitivities
    source: Input
    after: tuple[str, ...] = ()  # steps that must have succeeded


def target_params(variant: VariantConfig) -> TargetParams:
    """The stage's parameters; what a match asks for is an input, not a parameter."""
    rules = {name: getattr(variant, name) for name in TargetRules.model_fields}
    return TargetParams(
        **rules,
        bpw=variant.bpw,
        size_bytes=variant.size,
        memory_bytes=None if variant.fit is None else variant.fit.memory,
        kld=variant.kld,
    )


def measure_of(variant: VariantConfig, config: PipelineConfig, sources: Sources) -> Measure | None:
    """What a size is told by: the file matched, the memory of a context, the sensitivities."""
    if variant.fit is not None:
        key = memory_key(variant.fit.context, variant.fit.kv_type)
        return Measure(name="memory", source=OutputRef(step=key, output=RECORD))
    if variant.kld is not None:
        return Measure(name="sensitivities", source=REPORT)
    if variant.match is None:
        return None
    for reference in references_of(config, sources):
        if reference.name == variant.match:
            return Measure(name="match", source=reference.file, after=(reference.check,))
    return Measure(name="match", source=final_file(config, variant.match))


def memory_key(n_ctx: int, kv_type: KvType) -> str:
    """The step that asks what a context needs."""
    return f"memory/{n_ctx}-{kv_type}"


def wish(step: Step) -> str | None:
    """What a step by size asks for, in a few words; None of any other step."""
    params = step.params
    if not isinstance(params, TargetParams):
        return None
    if params.bpw is not None:
        return f"at most {params.bpw:g} bpw"
    if params.size_bytes is not None:
        return f"at most {size_label(params.size_bytes)}"
    if params.kld is not None:
        return f"the smallest of a mean KLD of {params.kld:g}, as predicted"
    source = step.inputs["match" if params.memory_bytes is None else "memory"]
    name = source.label if isinstance(source, Leaf) else source.step
    if params.memory_bytes is None:
        return f"the bpw of {name}"
    return f"within {size_label(params.memory_bytes)} beside {name}"


def contexts(config: PipelineConfig) -> dict[str, MemoryParams]:
    """Every context that is asked about, by the key of its step."""
    asked = [(n_ctx, config.memory.kv_type) for n_ctx in config.memory.contexts]
    fits = (variant.fit for variant in config.variants if variant.fit is not None)
    asked += [(fit.context, fit.kv_type) for fit in fits]
    return {
        memory_key(n_ctx, kv_type): MemoryParams(n_ctx=n_ctx, kv_type=kv_type)
        for n_ctx, kv_type in asked
    }
