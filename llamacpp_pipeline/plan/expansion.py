"""A configuration with its sources: what steps take from them, and which stage each is of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from llamacpp_pipeline.config.hub_file import HubFile
from llamacpp_pipeline.config.schema import PipelineConfig
from llamacpp_pipeline.plan.calibration import Text, texts_of
from llamacpp_pipeline.plan.candidates import (
    SELECT,
)
from llamacpp_pipeline.plan.selection_text import (
    FETCH as FETCH_SELECTION,
)
from llamacpp_pipeline.plan.sensitivity import (
    FETCH as FETCH_PROBE_TEXT,
)
from llamacpp_pipeline.plan.sources import Source, Sources
from llamacpp_pipeline.plan.step import Input, Leaf, OutputRef, Step
from llamacpp_pipeline.plan.tasks import TASKS
from llamacpp_pipeline.plan.texts import TEXT, as_text, text_params
from llamacpp_pipeline.stages import (
    bench,
    check_probe,
    check_selection,
    check_texts,
    convert,
    curves,
    dataset,
    fetch,
    imatrix,
    imatrix_check,
    inspect,
    kld,
    memory,
    perplexity,
    probe,
    quantize,
    reference_file,
    refine,
    select,
    sensitivity,
    tasks,
    weights,
)
from llamacpp_pipeline.stages import text as text_stage
from llamacpp_pipeline.stages.base import Frozen, ToolStage

REFERENCE = OutputRef(step="convert", output="gguf")
EVALUATION = "fetch-evaluation"


SomeParams = TypeVar("SomeParams", bound=Frozen)


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
        rows = text_params(self.config.evaluation.corpus)
        return as_text(self.evaluation_file, EVALUATION, rows)

    @property
    def evaluation_file(self) -> Input:
        """The file that it stands in."""
        hub = self.config.evaluation.corpus.on_hub
        return taken(self.sources.evaluation, EVALUATION, member=hub)

    @property
    def probe_text(self) -> Input:
        """The text that sensitivities are measured on."""
        asked = self.config.sensitivity
        rows = None if asked is None else text_params(asked.corpus)
        return as_text(self.probe_file, FETCH_PROBE_TEXT, rows)

    @property
    def probe_file(self) -> Input:
        """The file that it stands in."""
        asked, source = self.config.sensitivity, self.sources.sensitivity
        if asked is None or source is None:
            message = "no probe text was resolved"
            raise ValueError(message)
        return taken(source, FETCH_PROBE_TEXT, member=asked.corpus.on_hub)

    @property
    def selection_text(self) -> Input:
        """The text that candidates and refined mixes are chosen on."""
        corpus = self.config.selection_text
        rows = None if corpus is None else text_params(corpus)
        return as_text(self.selection_file, FETCH_SELECTION, rows)

    @property
    def selection_file(self) -> Input:
        """The file with the text that candidates are chosen on."""
        corpus, source = self.config.selection_text, self.sources.selection
        if corpus is None or source is None:
            message = "no text to choose on was resolved"
            raise ValueError(message)
        return taken(source, FETCH_SELECTION, member=corpus.on_hub)

    @property
    def texts(self) -> tuple[Text, ...]:
        """The texts that the imatrix is computed from."""
        return texts_of(self.config, self.sources)

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
            placement=self.config.placement.of_stages,
        )


STAGES: Mapping[str, ToolStage[Any, Any]] = {
    "fetch": fetch.STAGE,
    EVALUATION: fetch.STAGE,
    "fetch-calibration": fetch.STAGE,
    "fetch-imatrix": fetch.STAGE,
    "fetch-sensitivity": fetch.STAGE,
    FETCH_SELECTION: fetch.STAGE,
    "check-selection": check_selection.STAGE,
    "reference-selection": perplexity.REFERENCE,
    "kld-selection": kld.STAGE,
    "check-probe": check_probe.STAGE,
    "probe": probe.STAGE,
    "curves": curves.STAGE,
    "sensitivity": sensitivity.STAGE,
    "refine": refine.STAGE,
    "check-texts": check_texts.STAGE,
    "fetch-dataset": fetch.STAGE,
    "dataset": dataset.STAGE,
    TEXT: text_stage.STAGE,
    "fetch-reference": fetch.STAGE,
    "reference-file": reference_file.STAGE,
    "inspect": inspect.STAGE,
    "weights": weights.STAGE,
    "convert": convert.STAGE,
    "mmproj": convert.STAGE,
    "reference": perplexity.REFERENCE,
    "imatrix": imatrix.STAGE,
    "check-imatrix": imatrix_check.STAGE,
    "quantize": quantize.STAGE,
    SELECT: select.STAGE,
    "memory": memory.STAGE,
    "kld": kld.STAGE,
    "bench": bench.STAGE,
    TASKS: tasks.STAGE,
}


def taken(source: Source, step: str, *, member: HubFile | None) -> Input:
    """A source as an input: itself where it is at hand, else what fetching it will leave."""
    if isinstance(source, Leaf):
        return source
    name = None if member is None else member.unpacked
    return OutputRef(step=step, output="files", member=name)


def part(kind: type[SomeParams], whole: Frozen) -> SomeParams:
    """The stage's own parameters out of a section that says more than they do."""
    return kind(**{name: getattr(whole, name) for name in kind.model_fields})
