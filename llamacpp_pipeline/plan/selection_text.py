"""A text of its own to choose candidates on: the evaluation text then judges only what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from llamacpp_pipeline.config.schema import PipelineConfig
from llamacpp_pipeline.errors import ConfigError
from llamacpp_pipeline.plan.calibration import Text
from llamacpp_pipeline.plan.sources import Source, Sources
from llamacpp_pipeline.plan.step import Input, Leaf, OutputRef, Step
from llamacpp_pipeline.plan.texts import text_params, text_step
from llamacpp_pipeline.stages.check_probe import text_name
from llamacpp_pipeline.stages.check_selection import PROBE, SELECTION, CheckSelectionParams
from llamacpp_pipeline.stages.check_texts import EVALUATION
from llamacpp_pipeline.stages.kld import KldParams
from llamacpp_pipeline.stages.perplexity import PerplexityParams

if TYPE_CHECKING:
    from llamacpp_pipeline.plan.expansion import Expansion

FETCH = "fetch-selection"
CHECK = "check-selection"
REFERENCE = "reference-selection"
KLD = "kld-selection"
LOGITS = OutputRef(step=REFERENCE, output="logits")


def quality_key(config: PipelineConfig, label: str) -> str:
    """The step that measures a candidate for the choice; `label` is `<variant>~<candidate>`."""
    kind = "kld" if config.selection_text is None else KLD
    return f"{kind}/{label}"


def selection_steps(plan: Expansion, *, reference: Input, texts: list[Input]) -> Iterator[Step]:
    """From the text to the reference's logits on it; `texts` are the calibration texts in order."""
    corpus = plan.config.selection_text
    if corpus is None:
        return
    rows, file, text = text_params(corpus), plan.selection_file, plan.selection_text
    if rows is not None:
        yield text_step(plan, file, FETCH, rows)
    compared = {SELECTION: text, EVALUATION: plan.evaluation}
    if plan.config.sensitivity is not None:
        compared[PROBE] = plan.probe_text
    compared |= {text_name(at): other for at, other in enumerate(texts)}
    labels = tuple(one.label for one in plan.texts)
    yield plan.step(CHECK, params=CheckSelectionParams(labels=labels), inputs=compared)
    if not any(variant.candidates for variant in plan.config.variants):
        return  # mixes are compared in memory
    inputs = {"model": reference, "corpus": text}
    yield plan.step(REFERENCE, params=cut(plan.config), inputs=inputs, after=(CHECK,))


def cut(config: PipelineConfig) -> PerplexityParams:
    """How the text is cut: as the evaluation text, but for what is said of it."""
    as_judged, asked = config.evaluation, config.selection
    values = {name: getattr(as_judged, name) for name in PerplexityParams.model_fields}
    own = {"n_ctx": asked.n_ctx or as_judged.n_ctx, "n_chunks": asked.n_chunks}
    return PerplexityParams(**{**values, **own})


def divergence_for_choice(plan: Expansion, label: str, model: Input) -> Step:
    """The KLD of one candidate on that text."""
    params = KldParams(**cut(plan.config).model_dump())
    inputs = {"model": model, "logits": LOGITS}
    return plan.step(quality_key(plan.config, label), params=params, inputs=inputs)


def refuse_choosing_on_others(texts: tuple[Text, ...], sources: Sources) -> None:
    """Chosen on the evaluation text a file would be flattered after all.

    Texts on the Hub are compared once they are here, by the step check-selection.

    Raises:
        ConfigError: where the text is the evaluation text, the probe text or a calibration text.

    """
    ours = sources.selection
    if not isinstance(ours, Leaf):
        return
    others: list[tuple[str, Source | None]] = [("the evaluation text", sources.evaluation)]
    others += [("the probe text", sources.sensitivity)]
    others += [("a calibration text", text.source) for text in texts]
    for name, other in others:
        if isinstance(other, Leaf) and other.digest == ours.digest:
            raise ConfigError(
                f"the text to choose on is {name}",
                evidence=(ours.label, other.label, f"sha256 of both: {ours.digest}"),
                hint="choose on another text: `selection.corpus`",
            )
