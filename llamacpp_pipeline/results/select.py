"""Which candidate of each variant was kept, and why; the variant's figures are that one's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from llamacpp_pipeline.plan.candidates import SELECT, Candidate, candidates_of, sets_of
from llamacpp_pipeline.plan.tasks import score_of
from llamacpp_pipeline.results.documented import Documented
from llamacpp_pipeline.results.record import StepRecord
from llamacpp_pipeline.results.rivals import KldDifference, documented
from llamacpp_pipeline.results.run import RunRecords
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
    """Mean KLD against the reference, nats."""
    ppl_correlation: float
    """Correlation of the log-probabilities of the text's tokens with the reference's, percent."""
    task_average: Estimate | None = None
    """Average of its task scores, percent; absent where they were not measured."""
    too_large: bool
    """Whether its file was too large for the size of the variant as asked for."""
    difference: KldDifference | None = None
    """Its mean KLD minus the kept one's; absent of the kept one."""


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
            candidates=tuple(map(_figures, candidates_of(variant), decision.candidates)),
        )
        for variant, decision in found
        if decision is not None
    )


def with_kept(run: RunRecords) -> RunRecords:
    """The run with the records of each candidate that was kept under its variant's own keys too.

    With `quantize/Q4~base` and `kld/Q4~base` there are then `quantize/Q4` and `kld/Q4`.
    """
    kept: dict[str, StepRecord] = {}
    for label, candidate in kept_candidates(run).items():
        for key, alias in ((candidate.quantize, "quantize"), (candidate.kld, "kld")):
            kept[f"{alias}/{label}"] = run.needed(key)
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
