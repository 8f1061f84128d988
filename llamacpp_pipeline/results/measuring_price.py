"""What measuring the sensitivities took."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import NonNegativeFloat, PositiveInt

from llamacpp_pipeline.results.documented import Documented
from llamacpp_pipeline.results.record import StepRecord
from llamacpp_pipeline.results.run import RunRecords
from llamacpp_pipeline.stages import refine
from llamacpp_pipeline.stages.probe import ProbeParams, ProbeResult

REFINE = refine.STAGE.name


class Evaluation(Documented):
    """What measuring the files took, on the same machine."""

    n_files: PositiveInt
    """Files whose KLD was measured."""
    seconds: NonNegativeFloat
    """What that took."""


class MeasuringPrice(Documented):
    """Time and work of the steps that measured and fitted."""

    seconds: NonNegativeFloat
    """All of them together."""
    probe_seconds: NonNegativeFloat
    """Of these, measuring divergences; what an interrupted run had measured before is counted."""
    curves_seconds: NonNegativeFloat
    """Of these, measuring the errors of all tensors at all types."""
    refine_seconds: NonNegativeFloat = 0.0
    """Of these, validating the types of the files and measuring again where choices were close."""
    n_tokens: PositiveInt
    """Tokens that the model computed for the divergences, the reference's own pass included."""
    at_most: bool = False
    """Whether n_tokens is an upper bound: measurements could end early."""
    cpu: str
    """CPU and cores of the machine."""
    n_threads: PositiveInt | None = None
    """Threads; absent where the tool's own default was taken."""
    evaluation: Evaluation | None = None
    """For comparison; absent where the files were measured on another machine."""


def measuring_price(run: RunRecords) -> MeasuringPrice | None:
    """The price; None where the steps did not finish."""
    probe, curves, fit = (run.records.get(key) for key in ("probe", "curves", "sensitivity"))
    found = run.result("probe", ProbeResult)
    if probe is None or curves is None or fit is None or found is None:
        return None
    probe_seconds = max(probe.seconds, found.seconds)
    refined = total([record for record in run.records.values() if record.stage == REFINE])
    return MeasuringPrice(
        seconds=probe_seconds + curves.seconds + fit.seconds + refined,
        probe_seconds=probe_seconds,
        refine_seconds=refined,
        curves_seconds=curves.seconds,
        n_tokens=(found.n_measurements + 1) * found.n_chunks * found.n_ctx,
        at_most=ProbeParams.model_validate(probe.params).precision is not None,
        cpu=probe.machine.hostless_name,
        n_threads=probe.placement.n_threads,
        evaluation=_evaluation(run, probe),
    )


def _evaluation(run: RunRecords, probe: StepRecord) -> Evaluation | None:
    keys = [f"kld/{variant.label}" for variant in run.config.variants]
    found = [run.records[key] for key in keys if key in run.records]
    if not found or not all(_alike(probe, record) for record in found):
        return None
    return Evaluation(n_files=len(found), seconds=total(found))


def total(records: Sequence[StepRecord]) -> float:
    """Seconds of some steps together."""
    return sum(record.seconds for record in records)


def _alike(one: StepRecord, other: StepRecord) -> bool:
    return (one.machine, one.placement) == (other.machine, other.placement)
