"""Around a solution: which decisions are close, and what measuring them there changes.

Divergences of single tensors add up only nearly, and a curve through two measured types is a
guess at the others. Near a solution what counts is the marginal value: what the whole mix diverges
more, or less, when one tensor takes another type. These functions say which marginal values could
change the solution, and put measured ones in the place of what was assumed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from llamacpp_pipeline.allocate.frontier import Option
from llamacpp_pipeline.units import Estimate

CERTAINTY = 1.0  # a decision is close while its regret is within so many standard errors
MOST_STEPS = 2  # of one tensor, those of least regret
LEAST = 1e-3  # of what a type was thought to cost: what a noisy measurement leaves at least


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """What a tensor can be, what it is, and how far its curve can be trusted."""

    options: tuple[Option, ...]
    present: str  # type
    scatter: float  # relative standard error of a divergence that was not measured
    measured: Mapping[str, float] = field(default_factory=dict)  # type -> that of one that was

    @property
    def now(self) -> Option:
        """The option that it has.

        Raises:
            ValueError: where none is of that type.

        """
        return self.at(self.present)

    def at(self, kind: str) -> Option:
        """The option of a type, upper and lower case alike.

        Raises:
            ValueError: where there is none.

        """
        for option in self.options:
            if option.type.casefold() == kind.casefold():
                return option
        message = f"no divergence is known at {kind}"
        raise ValueError(message)

    def stderr(self, kind: str) -> float:
        """Of a step from the present type to another one, nats.

        The errors of two types count as independent: a curve misses each in its own way, so that
        of a small difference between large divergences little is known.
        """
        return math.hypot(*(self.error(option) for option in (self.now, self.at(kind))))

    def error(self, option: Option) -> float:
        """The standard error of one divergence, nats."""
        known = {name.casefold(): value for name, value in self.measured.items()}
        return known.get(option.type.casefold(), self.scatter) * option.divergence


@dataclass(frozen=True, kw_only=True)
class Step:
    """A tensor at another type than the solution's."""

    tensor: str
    type: str
    regret: float  # nats by which it is thought worse at the price of a byte; never negative
    stderr: float


def price(tensors: Mapping[str, Tensor]) -> float:
    """What a byte is worth at the solution, nats: between the best step up and the cheapest down.

    Raises:
        ValueError: where no tensor has another option.

    """
    up, down = 0.0, math.inf
    for tensor in tensors.values():
        now = tensor.now
        for option in tensor.options:
            more, gain = option.n_bytes - now.n_bytes, now.divergence - option.divergence
            if more > 0:
                up = max(up, gain / more)
            elif more < 0 and gain < 0:
                down = min(down, gain / more)
    if not up and math.isinf(down):
        message = "no tensor has another type to choose"
        raise ValueError(message)
    if not up or math.isinf(down):
        return up or down
    return math.sqrt(up * down)


def close_steps(tensors: Mapping[str, Tensor]) -> tuple[Step, ...]:
    """The steps whose regret could be an error of the curves, tensor by tensor."""
    worth = price(tensors)
    found: list[Step] = []
    for name, tensor in tensors.items():
        steps = [step for step in steps_of(name, tensor, worth) if is_close(step)]
        found += sorted(steps, key=lambda step: step.regret)[:MOST_STEPS]
    return tuple(found)


def steps_of(name: str, tensor: Tensor, worth: float) -> list[Step]:
    """From the present type of a tensor to each other one."""
    now = tensor.now
    return [
        Step(
            tensor=name,
            type=option.type,
            regret=max(0.0, cost(option, worth) - cost(now, worth)),
            stderr=tensor.stderr(option.type),
        )
        for option in tensor.options
        if option is not now and option.n_bytes != now.n_bytes
    ]


def cost(option: Option, worth: float) -> float:
    """Divergence and bytes in one, nats."""
    return option.divergence + worth * option.n_bytes


def is_close(step: Step) -> bool:
    """Whether measuring it could make it the better choice."""
    return step.regret <= CERTAINTY * step.stderr


def remeasured(
    tensors: Mapping[str, Tensor],
    marginal: Mapping[tuple[str, str], Estimate],
    *,
    scale: float,
) -> dict[str, tuple[Option, ...]]:
    """The options with what was measured at the solution.

    Each measured step is weighed with what the curve says, both by their errors.

    Args:
        tensors: At the solution.
        marginal: For tensors and types, the divergence of the solution with that tensor at that
            type minus the solution's own, nats.
        scale: The solution's own divergence over what was predicted for it, by which all that was
            not measured is multiplied. (Not what the steps say: they were chosen for what the
            curves say of them, and are no fair sample of the others.)

    """
    return {
        name: tuple(
            moved(tensor, option, scale=scale, measured=marginal.get((name, option.type)))
            for option in tensor.options
        )
        for name, tensor in tensors.items()
    }


def agreement(
    tensors: Mapping[str, Tensor], marginal: Mapping[tuple[str, str], Estimate]
) -> float | None:
    """Measured over assumed, by least squares over all steps; None where nothing is assumed.

    No step is left out for being small: of noisy steps the large ones alone would say too much.
    """
    product = square = 0.0
    for (name, kind), found in marginal.items():
        assumed = step_value(tensors[name], kind)
        variance = (found.stderr or 0.0) ** 2 + tensors[name].stderr(kind) ** 2
        if variance > 0:
            product += assumed * found.value / variance
            square += assumed**2 / variance
    return product / square if square else None


def step_value(tensor: Tensor, kind: str) -> float:
    """What the curve says of a step from the present type, nats."""
    return tensor.at(kind).divergence - tensor.now.divergence


def moved(tensor: Tensor, option: Option, *, scale: float, measured: Estimate | None) -> Option:
    """One option after the measurements."""
    base = scale * tensor.now.divergence
    assumed = scale * (option.divergence - tensor.now.divergence)
    step = assumed
    if measured is not None:
        own = Estimate(value=assumed, stderr=scale * tensor.stderr(option.type))
        step = weighed((own, measured)).value
    least = LEAST * scale * option.divergence
    return replace(option, divergence=max(base + step, least))


def weighed(estimates: Sequence[Estimate]) -> Estimate:
    """Their mean, each by the inverse of its variance; one without an error counts as exact.

    Raises:
        ValueError: without estimates.

    """
    if not estimates:
        message = "no estimates to weigh"
        raise ValueError(message)
    exact = [one for one in estimates if not one.stderr]
    if exact:
        return Estimate(value=sum(one.value for one in exact) / len(exact), stderr=0.0)
    weights = [1 / (one.stderr or 1.0) ** 2 for one in estimates]
    total = sum(weights)
    value = sum(w * one.value for w, one in zip(weights, estimates, strict=True)) / total
    return Estimate(value=value, stderr=1 / math.sqrt(total))
