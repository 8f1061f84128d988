"""Measured sensitivities in a terminal: a map in digits, the list, what changed, the price."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from llamacpp_pipeline.errors import UsageError
from llamacpp_pipeline.report.changes import Change, changes, roles
from llamacpp_pipeline.report.figures import ABSENT, number
from llamacpp_pipeline.report.measured import (
    alpha_text,
    change_text,
    fit_text,
    how_measured,
    missing_text,
    ordered,
    over_prior,
    price_text,
    signed,
)
from llamacpp_pipeline.report.terminal import aligned
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.sensitivity import MeasuredTensor, SensitivityFacts

MEASURE = "add `sensitivity: {corpus: ...}` to the config and run it again"
DIGITS = 10  # of the map, evenly in the logarithm
NOTHING = "."  # a layer without such a tensor, or one that was not measured
TENS = 10  # layers from one number above the map to the next


def sensitivity_text(document: ResultsDocument, *, n: int) -> str:
    """All of it; the `n` most and least sensitive tensors are listed.

    Raises:
        UsageError: where none were measured.

    """
    facts = document.sensitivity
    if facts is None:
        raise UsageError("these results hold no measured sensitivities", hint=MEASURE)
    found = [change for change in changes(document) if change.tensors]
    price = "" if facts.price is None else f"price: {price_text(facts.price)}"
    parts = [
        f"measured: {how_measured(facts)}",
        missing_text(facts),
        price,
        "\n".join(map_lines(facts.tensors)),
        listed(facts, n=n),
        fit_text(facts),
        *(f"{change_text(change)}\n\n{role_lines(change)}" for change in found),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def listed(facts: SensitivityFacts, *, n: int) -> str:
    """The most and the least sensitive tensors, with errors."""
    every = list(enumerate(ordered(facts), start=1))
    shown = every if len(every) <= 2 * n else [*every[:n], *every[-n:]]
    rows = [
        [str(rank), one.name, alpha_text(one.alpha), over_prior(one), str(one.elements)]
        for rank, one in shown
    ]
    if len(shown) < len(every):
        rows.insert(n, ["...", "", "", "", ""])
    head = ["rank", "tensor", "alpha", "times the prior", "weights"]
    return aligned([head, *rows], text_columns=(1,))


def map_lines(tensors: Sequence[MeasuredTensor]) -> Iterator[str]:
    """Role by layer, a digit for each tensor: 0 the least sensitive, 9 the most.

    Tensors outside the blocks have a line of their own, with their alpha in full.
    """
    known = [tensor for tensor in tensors if tensor.alpha.value > 0]
    inside = [tensor for tensor in known if tensor.layer is not None]
    if not inside:
        return
    low = min(tensor.alpha.value for tensor in known)
    high = max(tensor.alpha.value for tensor in known)
    step = (high / low) ** (1 / DIGITS)
    yield (
        f"alpha by role and layer: 0 from {low:.2g}, 9 up to {high:.2g}, each digit a factor of"
        f" {step:.2g}; {NOTHING} not measured"
    )
    names = list(dict.fromkeys(tensor.role for tensor in known))
    width = max(map(len, names))
    n_layers = 1 + max(tensor.layer or 0 for tensor in inside)
    yield f"{'layer':<{width}}  {ruler(n_layers)}"
    for role in names:
        here = {tensor.layer: tensor.alpha.value for tensor in known if tensor.role == role}
        digits = {layer: str(digit(alpha, low, high)) for layer, alpha in here.items()}
        row = "".join(digits.get(layer, NOTHING) for layer in range(n_layers))
        yield f"{role:<{width}}  {digits[None] + ' (no layer)' if None in digits else row}"


def digit(alpha: float, low: float, high: float) -> int:
    """Where it lies from the least to the most, in the logarithm."""
    if high <= low:
        return 0
    share = math.log(alpha / low) / math.log(high / low)
    return min(DIGITS - 1, int(DIGITS * share))


def ruler(n_layers: int) -> str:
    """Every tenth layer's number, above its column."""
    return "".join(f"{at:<{TENS}}" for at in range(0, n_layers, TENS)).rstrip()


def role_lines(change: Change) -> str:
    """What each role of tensor got, those first that got most."""
    found = roles(change)
    rows = [
        [role.role, str(role.n_tensors), number(role.bpw_before, digits=3),
         number(role.bpw_after, digits=3), more, nats(role.divergence_before),
         nats(role.divergence_after)]
        for role, more in zip(found, signed([role.more for role in found]), strict=True)
    ]  # fmt: skip
    head = ["role", "tensors", "bpw before", "after", "bytes", "predicted KLD before", "after"]
    return aligned([head, *rows])


def nats(value: float | None) -> str:
    """A divergence in nats."""
    return ABSENT if value is None else f"{value:.6f}"
