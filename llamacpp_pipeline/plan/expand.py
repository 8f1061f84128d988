"""Configuration and sources to a plan: every variant, and every measurement of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from llamacpp_pipeline.config.schema import HubFile, PipelineConfig, VariantConfig
from llamacpp_pipeline.errors import ConfigError
from llamacpp_pipeline.plan.order import ordered
from llamacpp_pipeline.plan.sources import HubCommit, Source, Sources
from llamacpp_pipeline.plan.step import Input, Leaf, OutputRef, Plan, Step
from llamacpp_pipeline.stages import (
    bench,
    convert,
    fetch,
    imatrix,
    inspect,
    kld,
    perplexity,
    quantize,
    weights,
)
from llamacpp_pipeline.stages.base import Frozen, ToolStage
from llamacpp_pipeline.stages.fetch import FetchParams
from llamacpp_pipeline.stages.imatrix import ImatrixParams
from llamacpp_pipeline.stages.kld import KldParams
from llamacpp_pipeline.stages.perplexity import PerplexityParams
from llamacpp_pipeline.stages.quantize import QuantizeParams

SomeParams = TypeVar("SomeParams", bound=Frozen)
REFERENCE = OutputRef(step="convert", output="gguf")
LOGITS = OutputRef(step="reference", output="logits")


def expand(config: PipelineConfig, sources: Sources) -> Plan:
    """All steps of a run, in an order in which they can run.

    What belongs to one variant stands together, so that a run that is stopped leaves variants
    that are measured.

    Raises:
        ConfigError: where the calibration text turns out to be the evaluation text.

    """
    refuse_one_text_for_both(config, sources)
    return Plan(steps=ordered(steps_of(Expansion(config=config, sources=sources))))


def refuse_one_text_for_both(config: PipelineConfig, sources: Sources) -> None:
    """Figures measured on the text that the imatrix was made from would flatter."""
    ours, theirs = sources.calibration, sources.evaluation
    if not (isinstance(ours, Leaf) and isinstance(theirs, Leaf)) or ours.digest != theirs.digest:
        return
    raise ConfigError(
        "the calibration text is the evaluation text",
        evidence=(
            f"calibration: {ours.label}",
            f"evaluation:  {theirs.label}",
            f"sha256 of both: {ours.digest}",
        ),
        hint="calibrate on another text: `calibration.corpus`"
        if config.calibration is not None
        else None,
    )


@dataclass(frozen=True, kw_only=True)
class Expansion:
    """A configuration with its sources, and the inputs that steps take from them."""

    config: PipelineConfig
    sources: Sources

    @property
    def model(self) -> Input:
        """The model folder."""
        return taken(self.sources.model, "fetch", member=None)

    @property
    def evaluation(self) -> Input:
        """The text that is measured on."""
        hub = self.config.evaluation.corpus.hub
        return taken(self.sources.evaluation, "fetch-evaluation", member=hub)

    @property
    def calibration(self) -> Input:
        """The text that the imatrix is computed from."""
        if self.config.calibration is None or self.sources.calibration is None:
            message = "no calibration text was resolved"
            raise ValueError(message)
        hub = self.config.calibration.corpus.hub
        return taken(self.sources.calibration, "fetch-calibration", member=hub)

    @property
    def imatrix(self) -> Input | None:
        """The imatrix: computed here, or given, or none."""
        if self.config.calibration is not None:
            return OutputRef(step="imatrix", output="imatrix")
        if self.config.imatrix is None:
            return None
        if self.sources.imatrix is None:
            message = "no imatrix was resolved"
            raise ValueError(message)
        return taken(self.sources.imatrix, "fetch-imatrix", member=self.config.imatrix.hub)

    def step(
        self,
        key: str,
        *,
        params: Frozen,
        inputs: dict[str, Input],
        after: tuple[str, ...] = (),
    ) -> Step:
        """A step of the stage that its key begins with, placed as the configuration says."""
        stage = STAGES[key.partition("/")[0]]
        return Step(
            key=key,
            stage=stage,
            params=params,
            inputs=inputs,
            after=after,
            placement=self.config.placement,
        )


STAGES: Mapping[str, ToolStage[Any, Any]] = {
    "fetch": fetch.STAGE,
    "fetch-evaluation": fetch.STAGE,
    "fetch-calibration": fetch.STAGE,
    "fetch-imatrix": fetch.STAGE,
    "inspect": inspect.STAGE,
    "weights": weights.STAGE,
    "convert": convert.STAGE,
    "mmproj": convert.STAGE,
    "reference": perplexity.REFERENCE,
    "imatrix": imatrix.STAGE,
    "quantize": quantize.STAGE,
    "kld": kld.STAGE,
    "bench": bench.STAGE,
}


def taken(source: Source, step: str, *, member: HubFile | None) -> Input:
    """A source as an input: itself where it is at hand, else what fetching it will leave."""
    if isinstance(source, Leaf):
        return source
    name = None if member is None else member.unpacked
    return OutputRef(step=step, output="files", member=name)


def steps_of(plan: Expansion) -> Iterator[Step]:
    """Every step."""
    yield from fetches(plan)
    yield from reference(plan)
    if plan.config.calibration is not None:
        yield plan.step(
            "imatrix",
            params=part(ImatrixParams, plan.config.calibration),
            inputs={"model": REFERENCE, "corpus": plan.calibration},
        )
    yield from measurements(plan, "reference", REFERENCE)
    for variant in plan.config.variants:
        yield quantization(plan, variant)
        made = OutputRef(step=f"quantize/{variant.label}", output="gguf")
        yield from measurements(plan, variant.label, made)


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
    texts = (("evaluation", config.evaluation), ("calibration", config.calibration))
    for name, section in texts:
        source: Source | None = getattr(sources, name)
        hub = None if section is None else section.corpus.hub
        if isinstance(source, HubCommit) and hub is not None:
            yield plan.step(f"fetch-{name}", params=one_file(hub, source), inputs={})
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


def quantization(plan: Expansion, variant: VariantConfig) -> Step:
    """One variant's file."""
    inputs: dict[str, Input] = {"model": REFERENCE}
    matrix = plan.imatrix
    if variant.imatrix and matrix is not None:
        inputs["imatrix"] = matrix
    return plan.step(
        f"quantize/{variant.label}", params=part(QuantizeParams, variant), inputs=inputs
    )


def measurements(plan: Expansion, label: str, model: OutputRef) -> Iterator[Step]:
    """What is measured of one GGUF. Of the reference itself the KLD is the noise floor."""
    yield plan.step(
        f"kld/{label}",
        params=part(KldParams, plan.config.evaluation),
        inputs={"model": model, "logits": LOGITS},
    )
    if plan.config.bench is not None:
        yield plan.step(f"bench/{label}", params=plan.config.bench, inputs={"model": model})


def part(kind: type[SomeParams], whole: Frozen) -> SomeParams:
    """The stage's own parameters out of a section that says more than they do."""
    return kind(**{name: getattr(whole, name) for name in kind.model_fields})
