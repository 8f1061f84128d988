"""Which candidate of each variant was kept, and why; the variant's figures are that one's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from llamacpp_pipeline.plan.candidates import SELECT, Candidate, candidates_of, sets_of
from llamacpp_pipeline.plan.selection_text import REFERENCE as CHOSEN_BY
from llamacpp_pipeline.plan.selection_text import quality_key
from llamacpp_pipeline.plan.tasks import score_of
from llamacpp_pipeline.results.conditions import REFERENCE, FileRef, file_ref
from llamacpp_pipeline.results.documented import Documented
from llamacpp_pipeline.results.record import StepRecord
from llamacpp_pipeline.results.rivals import KldDifference, documented
from llamacpp_pipeline.results.run import RunRecords
from llamacpp_pipeline.stages.perplexity import PerplexityResult
from llamacpp_pipeline.stages.selection import Decision, Judged
from llamacpp_pipeline.units import Estimate


class CandidateFigures(Documented):
    """One candidate of a variant."""

    name: str
    """Its name; "base" is the variant as asked for."""
    step: str
    """Key of the step that made it."""
    file_bytes: PositiveInt
    """Bytes of its file."""
    bpw: PositiveFloat
    """Bits per weight of its tensors."""
    mean_kld: Estimate
    """Mean KLD against the reference, nats, on the text of `chosen_on`."""
    ppl_correlation: float
    """Correlation of the log-probabilities of that text's tokens with the reference's, percent."""
    task_average: Estimate | None = None
    """Average of its task scores, percent; absent where they were not measured."""
    too_large: bool
    """Whether its file was too large for the size of the variant as asked for."""
    difference: KldDifference | None = None
    """Its mean KLD minus the kept one's; absent of the kept one."""


class ChosenOn(Documented):
    """What the KLDs and correlations behind a choice were measured on."""

    own_text: bool
    """True: on a text for choosing, which is not the evaluation text; the kept file's figures in
    its row were then measured after the choice. False: on the evaluation text, so that the
    figures in its row, which it was chosen by, flatter it a little."""
    corpus: FileRef
    """The text."""
    n_ctx: PositiveInt
    """Context length; the first half of each chunk is context only."""
    n_chunks: PositiveInt
    """Chunks measured."""


class Selection(Documented):
    """The choice between the candidates of one variant."""

    label: str
    """The variant."""
    kept: str
    """The candidate that the variant's file and figures are of."""
    reason: Literal["only", "kld", "rho_ppl", "tasks", "tie"]
    """The first criterion that told it from all others: mean KLD, then the PPL correlation, then
    the task average. "tie": none did, and the lowest mean KLD was kept. "only": no other was small
    enough."""
    larger_by: NonNegativeFloat
    """Share by which a candidate's file could exceed the base's."""
    chosen_on: ChosenOn | None = None
    """What it was chosen on; absent in documents of versions that could only choose on the
    evaluation text."""
    candidates: tuple[CandidateFigures, ...]
    """All of them, in the config's order."""


def selections(run: RunRecords) -> tuple[Selection, ...]:
    """One for each variant whose choice was made, in the config's order."""
    found = (
        (variant, run.result(f"{SELECT}/{variant.label}", Decision))
        for variant in run.config.variants
        if variant.candidates
    )
    return tuple(
        Selection(
            label=variant.label,
            kept=decision.kept,
            reason=decision.reason,
            larger_by=decision.larger_by,
            chosen_on=_chosen_on(run),
            candidates=tuple(map(_figures, candidates_of(variant), decision.candidates)),
        )
        for variant, decision in found
        if decision is not None
    )


def with_kept(run: RunRecords) -> RunRecords:
    """The run with the records of each candidate that was kept under its variant's own keys too.

    With `quantize/Q4~base` and `kld/Q4~base` there are then `quantize/Q4` and `kld/Q4`. Where the
    choice has a text of its own, `kld/Q4` is a step that measured the kept file, and stays.
    """
    judged_apart = run.config.selection_text is not None
    kept: dict[str, StepRecord] = {}
    for label, candidate in kept_candidates(run).items():
        kept[f"quantize/{label}"] = run.needed(candidate.quantize)
        refined = run.records.get(f"refine/{candidate.variant.label}")
        if refined is not None:
            kept[f"refine/{label}"] = refined
        if not judged_apart:
            kept[f"kld/{label}"] = run.needed(quality_key(run.config, candidate.variant.label))
        for name in sets_of(run.config):
            score = score_of(candidate.variant.label, name)
            kept[score_of(label, name)] = run.needed(score)
    return replace(run, records={**run.records, **kept})


def kept_candidates(run: RunRecords) -> Mapping[str, Candidate]:
    """The candidate kept of each variant whose choice was made, by the variant's label."""
    return {
        variant.label: next(one for one in candidates_of(variant) if one.name == decision.kept)
        for variant in run.config.variants
        if variant.candidates
        and (decision := run.result(f"{SELECT}/{variant.label}", Decision)) is not None
    }


def _chosen_on(run: RunRecords) -> ChosenOn:
    own_text = run.config.selection_text is not None
    key = CHOSEN_BY if own_text else REFERENCE
    result = run.needed_result(key, PerplexityResult)
    return ChosenOn(
        own_text=own_text,
        corpus=file_ref(run, run.plan.step(key).inputs["corpus"]),
        n_ctx=result.n_ctx,
        n_chunks=result.n_chunks,
    )


def _figures(candidate: Candidate, judged: Judged) -> CandidateFigures:
    difference = judged.difference
    return CandidateFigures(
        name=judged.name,
        step=candidate.quantize,
        file_bytes=judged.file_bytes,
        bpw=judged.bpw,
        mean_kld=judged.mean_kld,
        ppl_correlation=judged.ppl_correlation,
        task_average=judged.task_average,
        too_large=judged.too_large,
        difference=None if difference is None else documented(difference),
    )
