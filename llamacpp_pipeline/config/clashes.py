"""Values that are right by themselves and wrong together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pydantic import ValidationError

from llamacpp_pipeline.config.clash import Clash
from llamacpp_pipeline.config.placement import device_clashes
from llamacpp_pipeline.config.size_clashes import size_clashes
from llamacpp_pipeline.config.spelling import did_you_mean
from llamacpp_pipeline.config.task_sets import set_clashes
from llamacpp_pipeline.stages.gguf_labels import MOST_BYTES
from llamacpp_pipeline.stages.quant_types import FTYPES_NEEDING_IMATRIX

if TYPE_CHECKING:
    from llamacpp_pipeline.config.candidates import CandidateConfig
    from llamacpp_pipeline.config.schema import CalibrationText, PipelineConfig
    from llamacpp_pipeline.config.variants import VariantConfig

LONGEST_REPO = 96  # characters of a Hub id; as an address it still fits into the metadata
RESERVED = "reference"  # the label of the unquantized GGUF's own steps


class ClashError(ValueError):
    """What pydantic is told; `clashes` says where each one is."""

    def __init__(self, clashes: tuple[Clash, ...]) -> None:
        super().__init__("; ".join(clash.message for clash in clashes))
        self.clashes = clashes


def clashes_in(config: PipelineConfig) -> Iterator[Clash]:
    """All of them."""
    yield from imatrix_clashes(config)
    yield from sensitivity_clashes(config)
    yield from selection_clashes(config)
    yield from label_clashes(config)
    yield from candidate_clashes(config)
    yield from device_clashes(config)
    yield from missing_imatrix_clashes(config)
    yield from reference_clashes(config)
    yield from (Clash(path=path, message=text) for path, text in size_clashes(config))
    yield from comparison_clashes(config)
    yield from long_label_clashes(config)
    yield from set_clashes(config)


def imatrix_clashes(config: PipelineConfig) -> Iterator[Clash]:
    """An imatrix from two places, or from the very text it is judged on."""
    if config.calibration is None:
        return
    if config.imatrix is not None:
        message = "give either `calibration` (compute one) or `imatrix` (use one), not both"
        yield Clash(path=("imatrix",), message=message)
    for name, text in config.calibration.each:
        if text.same_text(config.evaluation.corpus):
            message = "is the evaluation text too: figures would flatter; calibrate on another text"
            yield Clash(path=place(name), message=message)
    yield from text_clashes(config.calibration.texts)


def sensitivity_clashes(config: PipelineConfig) -> Iterator[Clash]:
    """A probe text that is judged on, or that the imatrix knows already; and no probe text."""
    asked = config.sensitivity
    if asked is None:
        for at, variant in enumerate(config.variants):
            if variant.sensitivity == "measured":
                message = "nothing measures them: add a section `sensitivity` with a `corpus`"
                yield Clash(path=("variants", at, "sensitivity"), message=message)
        return
    path = ("sensitivity", "corpus")
    if asked.corpus.same_text(config.evaluation.corpus):
        message = "is the evaluation text too: figures would flatter; probe on another text"
        yield Clash(path=path, message=message)
    calibration = () if config.calibration is None else config.calibration.each
    if any(asked.corpus.same_text(text) for _, text in calibration):
        message = "is a calibration text too, on which errors are already kept small: take another"
        yield Clash(path=path, message=message)
    decided = any(map(config.refines, config.variants)) and config.selection.corpus is None
    if decided and asked.n_chunks is None:
        message = (
            "measures all of the probe text, of which `refine` needs half to decide on:"
            " give a number, a text to choose on (`selection.corpus`), or `refine: null`"
        )
        yield Clash(path=("sensitivity", "n_chunks"), message=message)


def selection_clashes(config: PipelineConfig) -> Iterator[Clash]:
    """A text to choose on that other choices or the figures know already."""
    corpus, path = config.selection.corpus, ("selection", "corpus")
    if corpus is None:
        return
    if corpus.same_text(config.evaluation.corpus):
        message = (
            "is the evaluation text, on which is chosen without it: leave it out, or name another"
        )
        yield Clash(path=path, message=message)
    calibration = () if config.calibration is None else config.calibration.each
    if any(corpus.same_text(text) for _, text in calibration):
        message = "is a calibration text too, which favours files with the imatrix: take another"
        yield Clash(path=path, message=message)
    if config.sensitivity is not None and corpus.same_text(config.sensitivity.corpus):
        message = "is the probe text too, which favours files with its sensitivities: take another"
        yield Clash(path=path, message=message)


def place(dotted: str) -> tuple[str | int, ...]:
    """A dotted path as pydantic has it."""
    return tuple(int(part) if part.isdecimal() else part for part in dotted.split("."))


def text_clashes(texts: Sequence[CalibrationText]) -> Iterator[Clash]:
    """One calibration text twice, or two of one name."""
    for at, text in enumerate(texts):
        before, path = texts[:at], ("calibration", "texts", at)
        if any(text.same_text(other) for other in before):
            message = "is named twice: name it once; `weight: 2` counts its tokens twice"
            yield Clash(path=path, message=message)
        elif any(text.label.casefold() == other.label.casefold() for other in before):
            message = f"a second text named {text.label}: give one of them a `name`"
            yield Clash(path=path, message=message)


def label_clashes(config: PipelineConfig) -> Iterator[Clash]:
    """Two variants of one name, on file systems that do not tell a from A too."""
    seen: set[str] = set()
    for at, variant in enumerate(config.variants):
        label = variant.label.casefold()
        path = ("variants", at, "name" if variant.name else variant.way)
        if label == RESERVED:
            message = f"{variant.label} is what the unquantized GGUF is called: take another `name`"
            yield Clash(path=path, message=message)
        if label in seen:
            message = f"a second variant named {variant.label}: give one of them a `name`"
            yield Clash(path=path, message=message)
        seen.add(label)


def reference_clashes(config: PipelineConfig) -> Iterator[Clash]:
    """A reference that is called as a variant is, or as another reference."""
    taken = {variant.label.casefold(): "variant" for variant in config.variants}
    taken[RESERVED] = "unquantized GGUF"
    for at, reference in enumerate(config.references):
        name = reference.name.casefold()
        if name in taken:
            message = f"the {taken[name]} is called {reference.name} too: take another `name`"
            yield Clash(path=("references", at, "name"), message=message)
        taken[name] = "other reference"


def candidate_clashes(config: PipelineConfig) -> Iterator[Clash]:
    """Candidates of one name, of a text that is none, or that do not go with their variant."""
    texts = () if config.calibration is None else config.calibration.texts
    labels = tuple(text.label for text in texts) if len(texts) > 1 else ()
    for at, variant in enumerate(config.variants):
        seen: set[str] = set()
        for index, candidate in enumerate(variant.candidates):
            path = ("variants", at, "candidates", index)
            if candidate.label.casefold() in seen:
                message = f"a second candidate named {candidate.label}: give it another `name`"
                yield Clash(path=path, message=message)
            seen.add(candidate.label.casefold())
            if candidate.sensitivity == "measured" and config.sensitivity is None:
                message = "nothing measures them: add a section `sensitivity` with a `corpus`"
                yield Clash(path=(*path, "sensitivity"), message=message)
            matrix, wrong = candidate.imatrix, unmakeable(config, variant, candidate)
            if wrong is not None:
                yield Clash(path=path, message=wrong)
            if isinstance(matrix, str) and matrix not in labels:
                close = did_you_mean(matrix, labels)
                message = f"{matrix} is none of several `calibration.texts`{close}"
                yield Clash(path=(*path, "imatrix"), message=message)


def missing_imatrix_clashes(config: PipelineConfig) -> Iterator[Clash]:
    """A file type that cannot be made without an imatrix, and none for it.

    Where overrides could change that, the step itself decides, knowing the tensors.
    """
    for at, variant in enumerate(config.variants):
        message = lacks_imatrix(config, variant)
        if message is not None:
            yield Clash(path=("variants", at, "ftype"), message=message)


def lacks_imatrix(config: PipelineConfig, variant: VariantConfig) -> str | None:
    """Why a recipe cannot be made for want of an imatrix; None where that is not so."""
    at_hand = config.calibration is not None or config.imatrix is not None
    decided = not variant.tensor_types and not variant.pure
    needed = variant.ftype in FTYPES_NEEDING_IMATRIX and decided
    if not needed or (at_hand and variant.imatrix):
        return None
    why = "has `imatrix: false`" if at_hand else "there is none"
    fix = "leave that out" if at_hand else "give `calibration` or `imatrix`"
    return f"{variant.ftype} needs an importance matrix and {why}: {fix}"


def unmakeable(
    config: PipelineConfig, variant: VariantConfig, candidate: CandidateConfig
) -> str | None:
    """Why a candidate cannot be made; None where it can."""
    try:
        return lacks_imatrix(config, variant.candidate(candidate))
    except ValidationError as error:
        return "; ".join(
            f"does not go with its variant: {problem['msg']}" for problem in error.errors()
        )


def comparison_clashes(config: PipelineConfig) -> Iterator[Clash]:
    """A comparison of what is not there, or with itself."""
    labels = (*(v.label for v in config.variants), *(r.name for r in config.references))
    for at, comparison in enumerate(config.card.compare):
        for side, label in (("variant", comparison.variant), ("against", comparison.against)):
            if label not in labels:
                message = f"no variant is named {label}{did_you_mean(label, labels)}"
                yield Clash(path=("card", "compare", at, side), message=message)
        if comparison.variant == comparison.against:
            message = f"{comparison.variant} is compared with itself"
            yield Clash(path=("card", "compare", at, "against"), message=message)


def long_label_clashes(config: PipelineConfig) -> Iterator[Clash]:
    """Words that are to be written into the files and do not fit there."""
    if not config.publish.labels_files:
        return
    card = config.card
    for path, words, most in (
        (("card", "quantized_by"), card.quantized_by, MOST_BYTES),
        (("card", "license"), card.license, MOST_BYTES),
        (("card", "base_model"), card.base_model, LONGEST_REPO),
        (("model", "repo"), config.model.repo, LONGEST_REPO),
        (("publish", "repo"), config.publish.repo, LONGEST_REPO),
    ):
        if words is not None and len(words.encode()) > most:
            message = f"is too long for the files' metadata: at most {most} bytes"
            yield Clash(path=path, message=message)
