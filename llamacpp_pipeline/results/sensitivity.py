"""What the model's own divergence says of its tensors: its section of results.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from llamacpp_pipeline.results.curve_fit import CurveFit, curve_fit
from llamacpp_pipeline.results.documented import Documented
from llamacpp_pipeline.results.measuring_price import MeasuringPrice, measuring_price
from llamacpp_pipeline.results.predicted import Known, Prediction, predictions
from llamacpp_pipeline.results.run import RunRecords
from llamacpp_pipeline.results.table import VariantRow
from llamacpp_pipeline.stages.check_probe import CheckProbeResult
from llamacpp_pipeline.stages.probe import ProbeParams, ProbeResult
from llamacpp_pipeline.stages.sensitivity import SensitivityResult
from llamacpp_pipeline.units import Estimate


class TypeDivergence(Documented):
    """A tensor at a type, all others as they are."""

    type: str
    """ggml type."""
    bytes: PositiveInt
    """What the tensor takes at it."""
    divergence: NonNegativeFloat
    """Mean KLD of the model from the reference in nats, measured or predicted."""
    measured: Estimate | None = None
    """The same as measured, with its error over chunks; absent where it is predicted."""


class MeasuredTensor(Documented):
    """One tensor whose sensitivity was measured."""

    name: str
    """Its name."""
    layer: NonNegativeInt | None = None
    """Number of its block; absent outside the blocks."""
    role: str
    """Its name without block and suffix, such as ffn_down."""
    elements: PositiveInt
    """Weights in it."""
    alpha: Estimate
    """Sensitivity: divergence in nats per unit of relative error energy of its output."""
    prior: NonNegativeFloat | None = None
    """What llama-quantize takes for it where nothing is measured."""
    types: tuple[TypeDivergence, ...]
    """Its types, smallest first."""


class SensitivityFacts(Documented):
    """Sensitivities measured by quantizing one tensor at a time (docs/allocation.md)."""

    probe_digest: str
    """sha256 of the text they were measured on."""
    shared_with_evaluation: NonNegativeFloat
    """Share of its words that stand in passages of the evaluation text too."""
    n_ctx: PositiveInt
    """Tokens per chunk."""
    n_chunks: PositiveInt
    """Chunks measured; with a precision, at most."""
    types: tuple[str, ...]
    """Types that every tensor was measured at."""
    bands: PositiveInt | None = None
    """Ranges of layers whose tensors of a role were measured together; absent: one by one."""
    hold: str
    """native: computed as a quantized file is on that machine; dequantized: the weights alone."""
    n_measurements: PositiveInt
    """Measurements, that of the floor included."""
    n_missing: NonNegativeInt
    """Measurements for which the time budget was too short."""
    floor: float
    """Mean KLD of the unquantized model from itself, in nats."""
    seconds: NonNegativeFloat
    """What the measurements took."""
    prior_rank_correlation: float | None = None
    """Spearman's, between measured and assumed sensitivities."""
    not_measured: tuple[str, ...] = ()
    """Tensors that keep the prior, scaled to the measured ones."""
    tensors: tuple[MeasuredTensor, ...]
    """Every tensor that was measured, in the file's order."""
    price: MeasuringPrice | None = None
    """What measuring took."""
    fit: CurveFit | None = None
    """How well some types predict others."""
    predictions: tuple[Prediction, ...] = ()
    """Each file's predicted mean KLD beside the measured one."""


def sensitivity_facts(run: RunRecords, rows: Sequence[VariantRow] = ()) -> SensitivityFacts | None:
    """The section, with a prediction for each of `rows`; None where nothing was measured."""
    found = run.result("sensitivity", SensitivityResult)
    probed, checked = run.result("probe", ProbeResult), run.result("check-probe", CheckProbeResult)
    if found is None or probed is None or checked is None:
        return None
    asked = ProbeParams.model_validate(run.needed("probe").params)
    tensors = _tensors(found)
    return SensitivityFacts(
        probe_digest=checked.digest,
        shared_with_evaluation=checked.shared_with_evaluation,
        n_ctx=probed.n_ctx,
        n_chunks=probed.n_chunks,
        types=asked.types,
        bands=asked.bands,
        hold=asked.hold,
        n_missing=probed.n_missing,
        tensors=tensors,
        price=measuring_price(run),
        fit=curve_fit(found),
        predictions=predictions(rows, known(tensors), noise=found.noise),
        **found.model_dump(include=set(SensitivityFacts.model_fields) - {"tensors"}),
    )


def known(tensors: Sequence[MeasuredTensor]) -> Mapping[str, Known]:
    """What predictions need of each tensor."""
    return {
        tensor.name: Known(
            alpha=tensor.alpha.value,
            divergences={at.type: at.divergence for at in tensor.types},
        )
        for tensor in tensors
    }


def _tensors(found: SensitivityResult) -> tuple[MeasuredTensor, ...]:
    return tuple(
        MeasuredTensor(
            name=tensor.name,
            layer=tensor.layer,
            role=tensor.role.removesuffix(".weight"),
            elements=tensor.elements,
            alpha=tensor.alpha,
            prior=tensor.prior,
            types=tuple(
                TypeDivergence(
                    type=at.type,
                    bytes=at.bytes,
                    divergence=at.divergence,
                    measured=next(
                        (
                            m.divergence
                            for m in tensor.measured
                            if m.type.casefold() == at.type.casefold()
                        ),
                        None,
                    ),
                )
                for at in tensor.curve
            ),
        )
        for tensor in found.tensors
    )
