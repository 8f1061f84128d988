"""What one step up or down from a tensor's type would cost and bring, in words."""

from __future__ import annotations

from collections.abc import Iterator

from llamacpp_pipeline.allocate.frontier import Option, hull
from llamacpp_pipeline.results.predicted import UNQUANTIZED
from llamacpp_pipeline.results.sensitivity import MeasuredTensor, TypeDivergence
from llamacpp_pipeline.units import bits_per_weight

RULES = "types are whole steps, and pins, min_types, max_types and same_type are kept to"
OTHERS = "the types of this file were chosen with other sensitivities"


def curve_rows(tensor: MeasuredTensor, present: str) -> Iterator[str]:
    """Every type: its bits, its bytes, and the divergence with this tensor alone at it."""
    yield f"{'type':<10}{'bpw':>9}{'bytes':>14}{'mean KLD':>14}"
    for at in tensor.types:
        bpw = bits_per_weight(size_bytes=at.bytes, n_elements=tensor.elements)
        here = "  <- this file" if at.type.casefold() == present.casefold() else ""
        yield f"{at.type:<10}{bpw:>9.4f}{at.bytes:>14d}{at.divergence:>14.3e}  {told(at)}{here}"


def told(at: TypeDivergence) -> str:
    """Where a divergence comes from."""
    if at.type.casefold() in UNQUANTIZED:
        return "not quantized"
    if at.measured is None:
        return "predicted"
    error = at.measured.stderr
    return "measured" if error is None else f"measured ± {error:.1e}"


def step_lines(
    tensor: MeasuredTensor, present: str, *, price: float | None, why_not: str = RULES
) -> Iterator[str]:
    """One step up, one step down, and whether either would be the better use of its bytes.

    `price` is what the last byte of the file brought, in nats; None where that is not known.
    `why_not` says why a better use of bytes may not have been taken.
    """
    now = next((at for at in tensor.types if at.type.casefold() == present.casefold()), None)
    if now is None:
        return
    up, down = neighbours(tensor, now)
    if up is not None:
        more, gain = up.n_bytes - now.bytes, now.divergence - up.divergence
        yield (
            f"one step up, {up.type}: {more} bytes more take {gain:.2e} nats off:"
            f" {gain / more:.1e} a byte{verdict_up(gain / more, price, why_not)}"
        )
    if down is not None:
        less, loss = now.bytes - down.n_bytes, down.divergence - now.divergence
        yield (
            f"one step down, {down.type}: {less} bytes less cost {loss:.2e} nats:"
            f" {loss / less:.1e} a byte{verdict_down(loss / less, price, why_not)}"
        )
    if price is not None:
        yield f"the last byte of a file of this size brings {price:.1e} nats, wherever it is best"


def verdict_up(gain: float, price: float | None, why_not: str) -> str:
    """Whether a step up is worth its bytes."""
    if price is None:
        return ""
    if gain <= price:
        return "; they bring more in another tensor"
    return f"; it would be worth them ({why_not})"


def verdict_down(loss: float, price: float | None, why_not: str) -> str:
    """Whether a step down would free bytes that are worth more elsewhere."""
    if price is None:
        return ""
    if loss >= price:
        return "; they bring less in any other tensor"
    return f"; they would bring more in another tensor ({why_not})"


def neighbours(tensor: MeasuredTensor, now: TypeDivergence) -> tuple[Option | None, Option | None]:
    """The next larger and the next smaller type that some price of a byte would choose."""
    options = [Option(type=t.type, n_bytes=t.bytes, divergence=t.divergence) for t in tensor.types]
    corners = hull(options)
    up = next((o for o in corners if o.n_bytes > now.bytes and o.divergence < now.divergence), None)
    down = next(
        (o for o in reversed(corners) if o.n_bytes < now.bytes and o.divergence > now.divergence),
        None,
    )
    return up, down
