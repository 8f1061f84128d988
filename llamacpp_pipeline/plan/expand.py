"""Configuration and sources to a plan: every variant, and every measurement of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from llamacpp_pipeline.config.hub_file import HubFile
from llamacpp_pipeline.config.schema import PipelineConfig
from llamacpp_pipeline.config.variants import VariantConfig
from llamacpp_pipeline.datasets.imatrix_weights import smallest
from llamacpp_pipeline.plan.calibration import IMATRIX, Text, refuse_one_text_for_both, texts_of
from llamacpp_pipeline.plan.candidates import (
    SELECT,
    Candidate,
    candidates_of,
    final_file,
    selection_inputs,
    selection_params,
    sets_of,
)
from llamacpp_pipeline.plan.datasets import dataset_steps
from llamacpp_pipeline.plan.expansion import EVALUATION, REFERENCE, Expansion, part, taken
from llamacpp_pipeline.plan.making import quantized
from llamacpp_pipeline.plan.order import ordered
from llamacpp_pipeline.plan.provenance import labelled
from llamacpp_pipeline.plan.references import ReferenceFile, references_of
from llamacpp_pipeline.plan.selection_text import (
    FETCH as FETCH_SELECTION,
)
from llamacpp_pipeline.plan.selection_text import (
    divergence_for_choice,
    refuse_choosing_on_others,
    selection_steps,
)
from llamacpp_pipeline.plan.sensitivity import (
    FETCH as FETCH_PROBE_TEXT,
)
from llamacpp_pipeline.plan.sensitivity import (
    refuse_probing_on_others,
    sensitivity_steps,
)
from llamacpp_pipeline.plan.sources import HubCommit, Sources
from llamacpp_pipeline.plan.step import Input, OutputRef, Plan, Step
from llamacpp_pipeline.plan.targets import contexts
from llamacpp_pipeline.plan.tasks import task_steps
from llamacpp_pipeline.plan.texts import as_text, text_params, text_step
from llamacpp_pipeline.stages import (
    check_texts,
    convert,
    fetch,
    imatrix_check,
    imatrix_merge,
    inspect,
    reference_file,
    weights,
)
from llamacpp_pipeline.stages.fetch import FetchParams
from llamacpp_pipeline.stages.kld import KldParams
from llamacpp_pipeline.stages.perplexity import PerplexityParams

LOGITS = OutputRef(step="reference", output="logits")


def expand(config: PipelineConfig, sources: Sources) -> Plan:
    """All steps of a run, in an order in which they can run.

    What belongs to one variant stands together, so that a run that is stopped leaves variants
    that are measured.

    Raises:
        ConfigError: where the calibration text turns out to be the evaluation text.

    """
    refuse_one_text_for_both(texts_of(config, sources), sources.evaluation)
    refuse_probing_on_others(sources)
    refuse_choosing_on_others(texts_of(config, sources), sources)
    steps = ordered(steps_of(Expansion(config=config, sources=sources)))
    return Plan(steps=labelled(steps, config))


def steps_of(plan: Expansion) -> Iterator[Step]:
    """Every step."""
    yield from fetches(plan)
    yield from texts(plan)
    yield from checks(plan)
    yield from reference(plan)
    yield from importance(plan)
    calibrated = [text_of(text) for text in plan.texts]
    yield from sensitivity_steps(plan, reference=REFERENCE, texts=calibrated)
    yield from selection_steps(plan, reference=REFERENCE, texts=calibrated)
    yield from dataset_steps(plan)
    yield from measurements(plan, "reference", REFERENCE)
    for key, params in contexts(plan.config).items():
        yield plan.step(key, params=params, inputs={"model": REFERENCE})
    for variant in plan.config.variants:
        yield from made_and_measured(plan, variant)
    for file in references_of(plan.config, plan.sources):
        yield from other_publishers(plan, file)


def other_publishers(plan: Expansion, file: ReferenceFile) -> Iterator[Step]:
    """Another publisher's file: fetched, checked to be of this model, then measured alike."""
    if isinstance(file.source, HubCommit) and file.hub is not None:
        yield plan.step(file.fetch, params=one_file(file.hub, file.source), inputs={})
    inputs: dict[str, Input] = {"model": REFERENCE, "file": file.file}
    yield plan.step(file.check, params=reference_file.ReferenceParams(), inputs=inputs)
    for step in measurements(plan, file.name, file.file):
        yield replace(step, after=(*step.after, file.check))


def fetches(plan: Expansion) -> Iterator[Step]:
    """What must come from the Hub."""
    config, sources = plan.config, plan.sources
    if isinstance(sources.model, HubCommit):
        params = FetchParams(
            repo=config.model.repo or "",
            commit=sources.model.commit,
            files=fetch.MODEL_FILES,
        )
        yield plan.step("fetch", params=params, inputs={})
    evaluation = (EVALUATION, sources.evaluation, config.evaluation.corpus.on_hub)
    probed = None if config.sensitivity is None else config.sensitivity.corpus.on_hub
    probe_text = (FETCH_PROBE_TEXT, sources.sensitivity, probed)
    chosen_on = config.selection_text
    chosen_hub = None if chosen_on is None else chosen_on.on_hub
    for key, source, hub in (
        evaluation,
        probe_text,
        (FETCH_SELECTION, sources.selection, chosen_hub),
        *((t.fetch, t.source, t.hub) for t in plan.texts),
    ):
        if isinstance(source, HubCommit) and hub is not None:
            yield plan.step(key, params=one_file(hub, source), inputs={})
    given = config.imatrix
    if isinstance(sources.imatrix, HubCommit) and given is not None and given.hub is not None:
        yield plan.step("fetch-imatrix", params=one_file(given.hub, sources.imatrix), inputs={})


def one_file(wanted: HubFile, source: HubCommit) -> FetchParams:
    """One file of a Hub repository, at its commit."""
    return FetchParams(
        repo=wanted.repo,
        repo_type=wanted.repo_type,
        commit=source.commit,
        files=(wanted.file,),
        member=wanted.member,
        sha256=wanted.sha256,
    )


def reference(plan: Expansion) -> Iterator[Step]:
    """The unquantized GGUF and its logits, from a model that was looked at first."""
    model = plan.model
    checked: dict[str, Input] = {
        "model": model,
        "weights": OutputRef(step="weights", output="report"),
    }
    looked = ("inspect",)
    yield plan.step("inspect", params=inspect.InspectParams(), inputs={"model": model})
    yield plan.step(
        "weights", params=weights.WeightsParams(), inputs={"model": model}, after=looked
    )
    yield plan.step("convert", params=conversion(plan.config), inputs=checked, after=looked)
    if plan.config.convert.mmproj:
        yield plan.step("mmproj", params=projector(plan.config), inputs=checked, after=looked)
    yield plan.step(
        "reference",
        params=part(PerplexityParams, plan.config.evaluation),
        inputs={"model": REFERENCE, "corpus": plan.evaluation},
    )


def checks(plan: Expansion) -> Iterator[Step]:
    """What is cheap to refuse: an imatrix of another model, texts that turn out to be one."""
    if plan.imatrix is not None and plan.config.imatrix is not None:
        given: dict[str, Input] = {"model": REFERENCE, "imatrix": plan.imatrix}
        yield plan.step("check-imatrix", params=imatrix_check.CheckParams(), inputs=given)
    if compared_later(plan):
        inputs = {check_texts.EVALUATION: plan.evaluation}
        inputs |= {check_texts.text_name(at): text_of(t) for at, t in enumerate(plan.texts)}
        params = check_texts.CheckTextsParams(labels=tuple(text.label for text in plan.texts))
        yield plan.step("check-texts", params=params, inputs=inputs)


def text_of(text: Text) -> Input:
    """A calibration text."""
    return as_text(taken(text.source, text.fetch, member=text.hub), text.fetch, text.rows)


def texts(plan: Expansion) -> Iterator[Step]:
    """Plain text of what is published in columns."""
    rows = text_params(plan.config.evaluation.corpus)
    if rows is not None:
        yield text_step(plan, plan.evaluation_file, EVALUATION, rows)
    probed = plan.config.sensitivity
    probe_rows = None if probed is None else text_params(probed.corpus)
    if probe_rows is not None:
        yield text_step(plan, plan.probe_file, FETCH_PROBE_TEXT, probe_rows)
    for text in plan.texts:
        if text.rows is not None:
            file = taken(text.source, text.fetch, member=text.hub)
            yield text_step(plan, file, text.fetch, text.rows)


def importance(plan: Expansion) -> Iterator[Step]:
    """The imatrix of the calibration text; of several, one each and then their merge."""
    compared = ("check-texts",) if compared_later(plan) else ()
    for text in plan.texts:
        read: dict[str, Input] = {"model": REFERENCE, "corpus": text_of(text)}
        yield plan.step(text.imatrix, params=text.params, inputs=read, after=compared)
    if len(plan.texts) > 1:
        yield merged(plan)


def compared_later(plan: Expansion) -> bool:
    """Whether texts can be told apart only when they are here."""
    everything = (plan.evaluation, *(text_of(text) for text in plan.texts))
    return bool(plan.texts) and any(isinstance(text, OutputRef) for text in everything)


def merged(plan: Expansion) -> Step:
    """The imatrices of several texts as one."""
    weights = smallest([text.weight for text in plan.texts])
    parts: dict[str, Input] = {
        imatrix_merge.part_name(at): OutputRef(step=text.imatrix, output="imatrix")
        for at, text in enumerate(plan.texts)
    }
    params = imatrix_merge.MergeParams(weights=weights)
    return replace(plan.step(IMATRIX, params=params, inputs=parts), stage=imatrix_merge.STAGE)


def conversion(config: PipelineConfig) -> convert.ConvertParams:
    """The language model's conversion."""
    asked = config.convert
    return convert.ConvertParams(
        outtype=asked.outtype,
        mtp=asked.mtp,
        pre_tokenizer=asked.pre_tokenizer,
        model_name=config.model.label,
    )


def projector(config: PipelineConfig) -> convert.ConvertParams:
    """The multimodal projector's conversion, which has neither tokenizer nor draft layers."""
    return convert.ConvertParams(
        outtype=config.convert.outtype, mmproj=True, model_name=config.model.label
    )


def made_and_measured(plan: Expansion, variant: VariantConfig) -> Iterator[Step]:
    """One variant; with candidates, each of them as far as the choice needs, then the one kept."""
    label, made = variant.label, final_file(plan.config, variant.label)
    candidates = candidates_of(variant)
    if not candidates:
        yield from quantized(plan, variant)
        yield from measurements(plan, label, made)
        return
    sets = sets_of(plan.config)
    for one in candidates:
        yield from map(one.placed, quantized(plan, one.variant))
        yield measured_for_choice(plan, one)
        if sets:
            yield from task_steps(plan, one.variant.label, one.gguf)
    params = selection_params(plan.config, candidates)
    inputs = selection_inputs(plan.config, candidates)
    yield plan.step(f"{SELECT}/{label}", params=params, inputs=inputs)
    if plan.config.selection_text is not None:
        yield divergence(plan, label, made)
    yield from speed(plan, label, made) if sets else further(plan, label, made)


def measured_for_choice(plan: Expansion, one: Candidate) -> Step:
    """The KLD by which a candidate is chosen: on the text for that, or the evaluation text."""
    measure = divergence if plan.config.selection_text is None else divergence_for_choice
    return measure(plan, one.variant.label, one.gguf)


def divergence(plan: Expansion, label: str, model: Input) -> Step:
    """The KLD of one GGUF. Of the reference itself it is the noise floor."""
    return plan.step(
        f"kld/{label}",
        params=part(KldParams, plan.config.evaluation),
        inputs={"model": model, "logits": LOGITS},
    )


def measurements(plan: Expansion, label: str, model: Input) -> Iterator[Step]:
    """All that is measured of one GGUF."""
    yield divergence(plan, label, model)
    yield from further(plan, label, model)


def further(plan: Expansion, label: str, model: Input) -> Iterator[Step]:
    """What is measured of a GGUF once it is known to be the one kept."""
    yield from speed(plan, label, model)
    yield from task_steps(plan, label, model)


def speed(plan: Expansion, label: str, model: Input) -> Iterator[Step]:
    """Tokens per second of one GGUF."""
    if plan.config.bench is not None:
        yield plan.step(f"bench/{label}", params=plan.config.bench, inputs={"model": model})
