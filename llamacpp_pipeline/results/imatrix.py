"""What the importance matrix tells about the model: its section of results.json."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from llamacpp_pipeline.datasets.imatrix_statistics import FEW_ROWS
from llamacpp_pipeline.results.documented import Documented
from llamacpp_pipeline.results.run import RunRecords
from llamacpp_pipeline.stages import imatrix_merge
from llamacpp_pipeline.stages.imatrix import ImatrixResult
from llamacpp_pipeline.stages.imatrix_check import CheckResult
from llamacpp_pipeline.stages.imatrix_facts import (
    ActivationStatistics,
    LayerActivity,
    TensorActivity,
)
from llamacpp_pipeline.stages.imatrix_merge import MergeResult

NAMED = 4  # tensors named in a note


class TensorSensitivity(Documented):
    """H_diag of one tensor: the mean of x² over its input channels."""

    name: str
    """The tensor."""
    layer: int | None = None
    """Its layer; absent outside blocks."""
    h_diag: NonNegativeFloat
    """mean(x²), as measured."""
    normalised: NonNegativeFloat
    """The same over the largest tensor's: at most 1."""


class LayerSensitivity(Documented):
    """H_diag of one layer: the mean of x² over the input channels of all its tensors."""

    layer: int
    """The layer."""
    h_diag: NonNegativeFloat
    """mean(x²), as measured."""
    normalised: NonNegativeFloat
    """The same over the largest layer's: at most 1."""


class ImatrixFacts(Documented):
    """The inputs of the model's weights on the calibration text. Undefined figures are null."""

    source: Literal["computed", "merged", "given"]
    """From one calibration text, from several, or a finished file."""
    n_entries: PositiveInt
    """Tensors that it knows."""
    without_means: NonNegativeInt
    """Tensors of which it knows no signed means, as files of an unpatched tool do not."""
    lacking: tuple[str, ...] = ()
    """Tensors that may be quantized and of which a given file knows nothing."""
    ignored: tuple[str, ...] = ()
    """Entries of a given file for which the model has no tensor."""
    few_rows: PositiveInt = FEW_ROWS
    """An expert that saw fewer rows counts as thinly covered (`n_few`)."""
    notes: tuple[str, ...] = ()
    """What a person should know of it: what is missing, which experts saw little."""
    tensor_h_diag: tuple[TensorSensitivity, ...]
    """Sensitivity by tensor."""
    layer_h_diag: tuple[LayerSensitivity, ...]
    """Sensitivity by layer."""
    tensors: tuple[TensorActivity, ...]
    """All statistics by tensor."""
    layers: tuple[LayerActivity, ...]
    """The same by layer."""


def imatrix_facts(run: RunRecords) -> ImatrixFacts | None:
    """What the run's imatrix tells; None where there is none."""
    given = run.result("check-imatrix", CheckResult)
    if given is not None:
        return _facts(given.statistics, source="given", given=given)
    record = run.records.get("imatrix")
    if record is None:
        return None
    if record.stage == imatrix_merge.STAGE.name:
        merged = run.needed_result("imatrix", MergeResult)
        return _facts(merged.statistics, source="merged")
    return _facts(run.needed_result("imatrix", ImatrixResult).statistics, source="computed")


def _facts(
    found: ActivationStatistics,
    *,
    source: Literal["computed", "merged", "given"],
    given: CheckResult | None = None,
) -> ImatrixFacts:
    return ImatrixFacts(
        source=source,
        n_entries=len(found.tensors),
        without_means=sum(not tensor.has_means for tensor in found.tensors),
        lacking=() if given is None else given.lacking,
        ignored=() if given is None else given.ignored,
        notes=notes(found, given=given),
        tensor_h_diag=tensor_sensitivities(found.tensors),
        layer_h_diag=layer_sensitivities(found.layers),
        tensors=found.tensors,
        layers=found.layers,
    )


def tensor_sensitivities(tensors: tuple[TensorActivity, ...]) -> tuple[TensorSensitivity, ...]:
    """H_diag by tensor; those without rows are left out."""
    raw = [(t, t.mean_square) for t in tensors if t.mean_square is not None]
    largest = max((value for _, value in raw), default=0.0) or 1.0
    return tuple(
        TensorSensitivity(name=t.name, layer=t.layer, h_diag=value, normalised=value / largest)
        for t, value in raw
    )


def layer_sensitivities(layers: tuple[LayerActivity, ...]) -> tuple[LayerSensitivity, ...]:
    """H_diag by layer; those without rows are left out."""
    raw = [(one.layer, one.mean_square) for one in layers if one.mean_square is not None]
    largest = max((value for _, value in raw), default=0.0) or 1.0
    return tuple(
        LayerSensitivity(layer=layer, h_diag=value, normalised=value / largest)
        for layer, value in raw
    )


def notes(found: ActivationStatistics, *, given: CheckResult | None) -> tuple[str, ...]:
    """What is missing, each said once, with the remedy where there is one."""
    told = [_means_note(found), _coverage_note(found)]
    if given is not None:
        told += [_lacking_note(given.lacking), _ignored_note(given.ignored)]
    return tuple(note for note in told if note is not None)


def _means_note(found: ActivationStatistics) -> str | None:
    without = sum(not tensor.has_means for tensor in found.tensors)
    if not without:
        return None
    return (
        f"{without} of {len(found.tensors)} tensors have no signed means in the imatrix (an"
        " unpatched llama-imatrix does not collect them): figures that need them are absent;"
        " quantization does not use them"
    )


def _coverage_note(found: ActivationStatistics) -> str | None:
    thin = [t for t in found.tensors if t.experts is not None and t.experts.n_few]
    if not thin:
        return None
    worst = max(t.experts.n_few for t in thin if t.experts is not None)
    unseen = sum(t.experts.n_unseen > 0 for t in thin if t.experts is not None)
    return (
        f"{len(thin)} expert tensors have experts that saw fewer than {FEW_ROWS} tokens (up to"
        f" {worst} of them in one tensor; in {unseen} tensors some saw none): their importance"
        " is a guess; calibrate on more text, or on more kinds of it"
    )


def _lacking_note(lacking: tuple[str, ...]) -> str | None:
    if not lacking:
        return None
    return (
        f"the given imatrix knows nothing of {len(lacking)} tensors, which are quantized without"
        f" it: {listed(lacking)}"
    )


def _ignored_note(ignored: tuple[str, ...]) -> str | None:
    if not ignored:
        return None
    return (
        f"{len(ignored)} entries of the given imatrix are of tensors that this GGUF has not:"
        f" {listed(ignored)}"
    )


def listed(names: tuple[str, ...]) -> str:
    """The first few names."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
