"""How large a file must be for a mean KLD: the smallest mix whose single divergences sum to it.

What is known are the measured and predicted divergences of the step `sensitivity`
(docs/allocation.md). llama-quantize then chooses the types itself, of at most that size. It knows
further types, whose divergence nothing has measured; that it may take those can only be
predicted to be better.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import FiniteFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic import ValidationError as WrongFormError

from llamacpp_pipeline.allocate.frontier import Option
from llamacpp_pipeline.allocate.smallest import reachable, smallest_mix
from llamacpp_pipeline.errors import InputError
from llamacpp_pipeline.stages.base import Frozen
from llamacpp_pipeline.stages.gguf_facts import GgufFacts
from llamacpp_pipeline.stages.sensitivity import SensitivityResult
from llamacpp_pipeline.stages.type_limits import Curve, allowed

if TYPE_CHECKING:
    from llamacpp_pipeline.stages.quantize_target import TargetRules


class KldBudget(Frozen):
    """What a mean KLD takes."""

    kld: PositiveFloat  # asked for: nats, on the probe text
    predicted: FiniteFloat  # of the smallest mix found: the sum of its single divergences
    tensor_bytes: PositiveInt  # of that mix, all tensors
    least_bytes: PositiveInt  # no mix of these types that is predicted to reach it has fewer
    n_assumed: NonNegativeInt  # tensors of which nothing was measured


def kld_budget(kld: float, *, rules: TargetRules, report: Path, model: GgufFacts) -> KldBudget:
    """The size that reaches a mean KLD.

    Args:
        kld: Nats.
        rules: What tensors may be.
        report: Of the step `sensitivity`.
        model: The unquantized file.

    Raises:
        InputError: where no mix reaches it, or the smallest mix that is known has less.

    """
    found = read_report(report)
    curves = curves_of(found)
    refuse_another_model(curves, model)
    items = allowed(rules, curves)
    mix, ends = smallest_mix(items, kld), reachable(items)
    if mix is None or kld > ends.most:
        raise InputError(
            f"a mean KLD of {kld:g} cannot be asked for: the mixes of the types allowed are"
            f" predicted to have {ends.least:.3g} to {ends.most:.3g} nats",
            hint="ask for one within that range (max_types and pins raise its lower end, min_types"
            " and the type_set lower its upper one), or for a size: bpw, size, fit, match",
        )
    rest = sum(tensor.n_bytes for tensor in model.tensors if tensor.name not in curves)
    return KldBudget(
        kld=kld,
        predicted=mix.divergence,
        tensor_bytes=mix.n_bytes + rest,
        least_bytes=mix.bound + rest,
        n_assumed=len(found.assumed),
    )


def read_report(path: Path) -> SensitivityResult:
    """What the step `sensitivity` found.

    Raises:
        InputError: where the file is of another form.

    """
    try:
        return SensitivityResult.model_validate_json(path.read_bytes())
    except WrongFormError as error:
        first = error.errors()[0]
        raise InputError(
            "the sensitivities are not of the form that this version reads",
            evidence=(f"{'.'.join(map(str, first['loc']))}: {first['msg']}",),
            hint="compute them again: `llamacpp-pipeline run --rerun sensitivity`",
        ) from error


def curves_of(found: SensitivityResult) -> dict[str, Curve]:
    """Every tensor that can be quantized, with what it can be."""
    curves = {one.name: one.curve for one in found.tensors}
    curves |= {one.name: one.curve for one in found.assumed}
    return {
        name: tuple(
            Option(type=at.type, n_bytes=at.bytes, divergence=at.divergence) for at in curve
        )
        for name, curve in curves.items()
    }


def refuse_another_model(curves: dict[str, Curve], model: GgufFacts) -> None:
    """Refuse sensitivities of tensors that the model has not.

    Raises:
        InputError: naming one.

    """
    names = {tensor.name for tensor in model.tensors}
    missing = next((name for name in curves if name not in names), None)
    if missing is not None:
        raise InputError(
            f"{missing} has a sensitivity and is no tensor of {model.path.name}",
            hint="both must be of the same model: start again with an empty --store",
        )
