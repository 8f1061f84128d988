"""What single divergences add up to for each file, beside the mean KLD that was measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat

from llamacpp_pipeline.results.documented import Documented
from llamacpp_pipeline.results.table import VariantRow
from llamacpp_pipeline.units import Estimate

UNQUANTIZED = frozenset({"f32", "f16", "bf16"})  # what they cost is below the reference's noise


class Prediction(Documented):
    """One file: the sum of what its tensors cost alone, on the probe text."""

    label: str
    """The file's label."""
    predicted: NonNegativeFloat | None = None
    """Sum over its tensors of the divergence at their types, nats; absent where one has none."""
    measured: Estimate | None = None
    """Its mean KLD on the evaluation text, nats."""
    ratio: PositiveFloat | None = None
    """predicted / measured."""
    without_curve: dict[str, NonNegativeInt] = {}
    """Why there is no prediction: ggml type to the number of tensors that have no divergence at
    it. Empty in that case where the record does not tell the tensors' types."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What was found out about one tensor."""

    alpha: float  # nats per unit of relative error
    divergences: Mapping[str, float]  # ggml type -> nats


def predictions(
    rows: Sequence[VariantRow], known: Mapping[str, Known], *, noise: float
) -> tuple[Prediction, ...]:
    """Each file's prediction; `noise` is the relative error that every quantized tensor has more.

    A type without a divergence is predicted only where the file's own plan tells the relative
    error that the tensor has at it. It is not guessed from its bits: types of as many bits differ.
    """
    return tuple(_prediction(row, known, noise=noise) for row in rows)


def _prediction(row: VariantRow, known: Mapping[str, Known], *, noise: float) -> Prediction:
    errors = planned_errors(row)
    parts = {
        name: None if name not in known else part_of(known[name], kind, errors.get(name), noise)
        for name, kind in row.tensors.items()
        if kind.casefold() not in UNQUANTIZED
    }
    unknown = Counter(row.tensors[name] for name, part in parts.items() if part is None)
    complete = bool(row.tensors) and not unknown
    total = sum(part for part in parts.values() if part is not None) if complete else None
    measured = None if row.quality is None else row.quality.mean_kld
    return Prediction(
        label=row.label,
        predicted=total,
        measured=measured,
        ratio=_ratio(total, measured),
        without_curve=dict(sorted(unknown.items())),
    )


def planned_errors(row: VariantRow) -> Mapping[str, float]:
    """The relative error of each tensor at its type, where the file's own plan measured it."""
    if row.allocation is None:
        return {}
    return {
        tensor.name: tensor.error / tensor.alpha
        for tensor in row.allocation.tensors
        if tensor.alpha and tensor.error is not None
    }


def part_of(known: Known, kind: str, rho: float | None, noise: float) -> float | None:
    """What a tensor at a type costs alone, nats; None where nothing tells."""
    by_type = {name.casefold(): value for name, value in known.divergences.items()}
    found = by_type.get(kind.casefold())
    return known.alpha * (rho + noise) if found is None and rho is not None else found


def _ratio(predicted: float | None, measured: Estimate | None) -> float | None:
    if not predicted or measured is None or measured.value <= 0:
        return None
    return predicted / measured.value
