"""The importance matrix in a plan: one step, or one for each text and an exact merge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from llamacpp_pipeline.config.corpus import CorpusConfig
from llamacpp_pipeline.config.hub_file import HubFile
from llamacpp_pipeline.config.schema import (
    CalibrationConfig,
    CalibrationText,
    PipelineConfig,
)
from llamacpp_pipeline.errors import ConfigError
from llamacpp_pipeline.plan.sources import Source, Sources
from llamacpp_pipeline.plan.step import Leaf
from llamacpp_pipeline.plan.texts import text_params
from llamacpp_pipeline.stages.imatrix import ImatrixParams
from llamacpp_pipeline.stages.text import TextParams

FETCH = "fetch-calibration"
IMATRIX = "imatrix"


@dataclass(frozen=True, kw_only=True)
class Text:
    """One calibration text with all that its steps need."""

    label: str  # of a text that is alone: "calibration"
    fetch: str  # key of the step that fetches it, where it comes from the Hub
    imatrix: str  # key of the step that reads it
    source: Source
    hub: HubFile | None
    rows: TextParams | None  # how it is taken out of its file; None where the file is the text
    params: ImatrixParams
    weight: int


def texts_of(config: PipelineConfig, sources: Sources) -> tuple[Text, ...]:
    """The calibration texts of a configuration; none where it has no `calibration`."""
    asked = config.calibration
    if asked is None:
        return ()
    if len(sources.calibration) != len(asked.each):
        found = len(sources.calibration) or "no"
        message = f"{found} calibration text was resolved, of {len(asked.each)}"
        raise ValueError(message)
    pairs = zip(asked.each, sources.calibration, strict=True)
    return tuple(_text(asked, text, source) for (_, text), source in pairs)


def _text(asked: CalibrationConfig, text: CorpusConfig, source: Source) -> Text:
    params = ImatrixParams(**{name: getattr(asked, name) for name in ImatrixParams.model_fields})
    alone = Text(
        label="calibration",
        fetch=FETCH,
        imatrix=IMATRIX,
        source=source,
        hub=text.on_hub,
        rows=text_params(text),
        params=params,
        weight=1,
    )
    if not isinstance(text, CalibrationText):
        return alone
    n_chunks = text.n_chunks or params.n_chunks
    limited = replace(alone, params=params.model_copy(update={"n_chunks": n_chunks}))
    return limited if len(asked.texts) == 1 else _one_of_several(limited, text)


def _one_of_several(text: Text, asked: CalibrationText) -> Text:
    return replace(
        text,
        label=asked.label,
        fetch=f"{FETCH}/{asked.label}",
        imatrix=f"{IMATRIX}/{asked.label}",
        weight=asked.weight,
    )


def refuse_one_text_for_both(texts: tuple[Text, ...], evaluation: Source) -> None:
    """Figures measured on the text that the imatrix was made from would flatter.

    Texts on the Hub are compared once they are here, by the step check-texts.

    Raises:
        ConfigError: where two texts are one.

    """
    for label, leaf in _at_hand(texts):
        if isinstance(evaluation, Leaf) and leaf.digest == evaluation.digest:
            raise _one_text(label, leaf, evaluation)
    _refuse_twice(texts)


def _one_text(label: str, leaf: Leaf, evaluation: Leaf) -> ConfigError:
    return ConfigError(
        "the calibration text is the evaluation text",
        evidence=(
            f"{label}: {leaf.label}",
            f"evaluation:  {evaluation.label}",
            f"sha256 of both: {leaf.digest}",
        ),
        hint="calibrate on another text: `calibration.corpus` or `calibration.texts`",
    )


def _refuse_twice(texts: tuple[Text, ...]) -> None:
    first: dict[str, str] = {}
    for label, leaf in _at_hand(texts):
        if leaf.digest in first:
            raise ConfigError(
                f"calibration texts {first[leaf.digest]} and {label} are one text",
                evidence=(f"sha256 of both: {leaf.digest}",),
                hint="name it once; `weight: 2` counts its tokens twice",
            )
        first[leaf.digest] = label


def _at_hand(texts: tuple[Text, ...]) -> Iterator[tuple[str, Leaf]]:
    return ((text.label, text.source) for text in texts if isinstance(text.source, Leaf))
