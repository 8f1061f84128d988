"""Sensitivities of the tensors: from measured divergences to what llama-quantize takes.

The output `weights` is a file for `--tensor-weights` (docs/target-bpw.md): for every tensor its
alpha, and its divergence at every type whose relative error is known.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import click
from pydantic import Field, FiniteFloat, NonNegativeFloat, NonNegativeInt, PositiveInt

from llamacpp_pipeline.allocate.sensitivity import (
    ACTIVATION_NOISE,
    Point,
    Sensitivity,
    paired,
    rank_correlation,
    sensitivity,
)
from llamacpp_pipeline.datasets.imatrix_statistics import locate
from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages import own_tool
from llamacpp_pipeline.stages.base import Argv, Frozen, Paths, ToolStage
from llamacpp_pipeline.stages.curves import Curves, CurveTensor, read_curves
from llamacpp_pipeline.stages.llama_log import complaints
from llamacpp_pipeline.stages.probe_lines import Measurement, read_measurements
from llamacpp_pipeline.units import Estimate

TOOL = "llamacpp_pipeline.stages.sensitivity"


class SensitivityParams(Frozen):
    """Nothing changes how they are computed."""


class MeasuredType(Frozen):
    """A divergence that was measured."""

    type: str
    rho: NonNegativeFloat  # relative error of the tensor's output (docs/target-bpw.md)
    divergence: Estimate  # nats; the floor taken off chunk by chunk, error over chunks
    together: PositiveInt = 1  # tensors measured at once, of which this one has a share


class CurveAt(Frozen):
    """A tensor at a type."""

    type: str
    bytes: PositiveInt
    divergence: NonNegativeFloat  # nats: measured, or what the measured types predict


class TensorSensitivity(Frozen):
    """One tensor."""

    name: str
    layer: NonNegativeInt | None
    role: str
    elements: PositiveInt
    alpha: Estimate  # nats per unit of rho, that of rounded inputs included
    prior: NonNegativeFloat | None  # what llama-quantize would have taken for alpha
    measured: tuple[MeasuredType, ...]
    curve: tuple[CurveAt, ...]  # every type whose relative error is known, smallest first


class AssumedTensor(Frozen):
    """A tensor of which nothing was measured: what llama-quantize takes it to cost."""

    name: str
    curve: tuple[CurveAt, ...]  # by the prior, scaled to the measured tensors


class SensitivityResult(Frozen):
    n_measurements: PositiveInt
    noise: NonNegativeFloat  # relative error of rounded inputs that rho is taken to have besides
    floor: FiniteFloat  # nats
    seconds: NonNegativeFloat  # that the measurements took
    tensors: Annotated[tuple[TensorSensitivity, ...], Field(min_length=1)]
    not_measured: tuple[str, ...]  # tensors that keep the prior, scaled to the measured ones
    assumed: tuple[AssumedTensor, ...] = ()  # those tensors
    prior_rank_correlation: float | None  # Spearman's, of alpha and prior


def argv(params: SensitivityParams, paths: Paths) -> Argv:
    del params
    return (
        TOOL,
        *("--measurements", str(paths["measurements"])),
        *("--curves", str(paths["curves"])),
        *("--weights", str(paths["weights"])),
        *("--output", str(paths["report"])),
    )


def parse(log: str, paths: Paths) -> SensitivityResult:
    try:
        result = SensitivityResult.model_validate_json(paths["report"].read_bytes())
        given = json.loads(paths["weights"].read_bytes())["tensors"]
    except (OSError, ValueError, KeyError) as error:
        evidence = (*complaints(log), str(error).splitlines()[0])
        raise UnreadableOutputError(TOOL, "sensitivities and weights", evidence) from error
    if set(given) != {tensor.name for tensor in result.tensors}:
        raise UnreadableOutputError(TOOL, "weights of the tensors that were measured")
    return result


def computed(found: Sequence[Measurement], curves: Curves) -> SensitivityResult:
    """The sensitivities of all tensors that were measured.

    Raises:
        InputError: where measurements and curves are not of one model, or do not meet.

    """
    floor, rest = found[0], found[1:]
    points: dict[str, dict[str, MeasuredType]] = {}
    for measurement in rest:
        for name, measured in shares(measurement, floor, curves).items():
            points.setdefault(name, {})[measured.type] = measured
    noise = ACTIVATION_NOISE if floor.hold == "native" else 0.0
    tensors = tuple(tensor_of(curves.by_name[name], at, noise) for name, at in points.items())
    if not tensors:
        raise InputError("no measurement is of a tensor and type whose error is known")
    known = [(t.alpha.value, t.prior) for t in tensors if t.prior is not None]
    others, scale = tuple(n for n in curves.by_name if n not in points), scale_of(tensors)
    return SensitivityResult(
        n_measurements=len(found),
        noise=noise,
        floor=floor.kld,
        seconds=sum(measurement.seconds for measurement in found),
        tensors=tensors,
        not_measured=others,
        assumed=tuple(assumed(curves.by_name[name], scale) for name in others),
        prior_rank_correlation=rank_correlation([a for a, _ in known], [p for _, p in known]),
    )


def scale_of(tensors: Sequence[TensorSensitivity]) -> float:
    """What llama-quantize multiplies the prior of the other tensors with: the middle ratio."""
    ratios = sorted(t.alpha.value / t.prior for t in tensors if t.prior and t.alpha.value > 0)
    return ratios[len(ratios) // 2] if ratios else 1.0


def assumed(tensor: CurveTensor, scale: float) -> AssumedTensor:
    """A tensor by its prior."""
    known = [
        CurveAt(type=point.type, bytes=point.bytes, divergence=point.error * scale)
        for point in tensor.curve
        if point.error is not None
    ]
    return AssumedTensor(name=tensor.name, curve=tuple(known))


def shares(measurement: Measurement, floor: Measurement, curves: Curves) -> dict[str, MeasuredType]:
    """What each of its tensors takes of a divergence: by the prior, where they are several.

    Raises:
        InputError: where a tensor is unknown.

    """
    whole = paired(measurement.chunk_kld, floor.chunk_kld)
    parts: dict[str, tuple[str, float, float]] = {}
    for name, kind in measurement.tensors.items():
        tensor = curves.by_name.get(name)
        if tensor is None:
            raise InputError(
                f"{name} was probed and has no curve of errors",
                hint="both must be of the same model: start again with an empty --store",
            )
        rho = next((p.rho for p in tensor.curve if p.type.casefold() == kind.casefold()), None)
        if rho:
            parts[name] = (kind, rho, (tensor.alpha or 1.0) * rho)
    total = sum(part for _, _, part in parts.values())
    return {
        name: MeasuredType(
            type=kind, rho=rho, divergence=scaled(whole, part / total), together=len(parts)
        )
        for name, (kind, rho, part) in parts.items()
    }


def scaled(estimate: Estimate, factor: float) -> Estimate:
    """A part of it; the error is the part's too."""
    stderr = None if estimate.stderr is None else estimate.stderr * factor
    return Estimate(value=estimate.value * factor, stderr=stderr)


def tensor_of(
    tensor: CurveTensor, measured: dict[str, MeasuredType], noise: float
) -> TensorSensitivity:
    """One tensor, types by falling error."""
    layer, role = locate(tensor.name)
    fit = fitted(measured.values(), noise=noise)
    known = [
        CurveAt(type=p.type, bytes=p.bytes, divergence=fit.divergence(p.rho))
        for p in tensor.curve
        if p.rho is not None
    ]
    return TensorSensitivity(
        name=tensor.name,
        layer=layer,
        role=role,
        elements=tensor.elements,
        alpha=fit.alpha,
        prior=tensor.alpha,
        measured=tuple(sorted(measured.values(), key=lambda m: -m.rho)),
        curve=tuple(sorted(known, key=lambda point: (point.bytes, -point.divergence))),
    )


def fitted(measured: Iterable[MeasuredType], *, noise: float) -> Sensitivity:
    """The curve through the measured types."""
    return sensitivity(
        [
            Point(rho=m.rho, divergence=m.divergence.value, stderr=m.divergence.stderr or 0.0)
            for m in measured
        ],
        noise=noise,
    )


def weights(result: SensitivityResult) -> str:
    """The file for --tensor-weights."""
    tensors = {
        tensor.name: {
            "alpha": tensor.alpha.value,
            "divergence": {at.type: at.divergence for at in tensor.curve if at.divergence > 0},
        }
        for tensor in result.tensors
    }
    return json.dumps({"tensors": tensors}, indent=1) + "\n"


@click.command()
@click.option("--measurements", type=click.Path(path_type=Path), required=True)
@click.option("--curves", type=click.Path(path_type=Path), required=True)
@click.option("--weights", "target", type=click.Path(path_type=Path), required=True)
@click.option("--output", type=click.Path(path_type=Path), required=True)
def main(measurements: Path, curves: Path, target: Path, output: Path) -> None:
    """Compute sensitivities from the probe's measurements and the planner's curves."""

    def work() -> str:
        result = computed(read_measurements(measurements), read_curves(curves))
        target.write_text(weights(result), encoding="utf-8")
        output.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return f"{len(result.tensors)} sensitivities from {result.n_measurements} measurements"

    sys.exit(own_tool.run(work))


STAGE = ToolStage(
    name="sensitivity",
    version=2,  # bump when argv, parse or the computation changes meaning
    tool=TOOL,
    made_by="pipeline",
    inputs=frozenset({"measurements", "curves"}),
    outputs={"weights": "weights.json", "report": "sensitivity.json"},
    params=SensitivityParams,
    result=SensitivityResult,
    lane="host",
    argv=argv,
    parse=parse,
    explain=own_tool.explain,
)

if __name__ == "__main__":
    main()
