"""What each tensor may become under the rules of a target, as llama-quantize reads them.

Options are types whose divergence is known. A pin to another type is charged what the nearest
known type of no more bits costs, which is rather too much than too little.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gguf import GGMLQuantizationType

from llamacpp_pipeline.allocate.frontier import Option
from llamacpp_pipeline.datasets.imatrix_statistics import locate
from llamacpp_pipeline.errors import InputError
from llamacpp_pipeline.stages.gguf_facts import NEWER_TYPES, type_layout
from llamacpp_pipeline.stages.tensor_rules import EMBEDDINGS, OUTPUT
from llamacpp_pipeline.units import bits_per_weight

if TYPE_CHECKING:
    from llamacpp_pipeline.stages.quantize_target import TargetRules

Curve = tuple[Option, ...]
TYPE_SETS: Mapping[str, frozenset[str]] = {  # of the tool, by its names for them
    "kquants": frozenset({"q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "q8_0"}),
    "fast": frozenset({"q4_0", "q4_1", "q4_k", "q5_k", "q6_k", "q8_0"}),
}
BITS: Mapping[str, float] = {
    name.casefold(): bits_per_weight(size_bytes=size, n_elements=block)
    for name, block, size in map(type_layout, (*GGMLQuantizationType, *NEWER_TYPES))
}


def allowed(rules: TargetRules, curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """What gets one type, a tensor or those of a layer that share theirs, and what it may be.

    Raises:
        InputError: where a tensor may become nothing of which a divergence is known.

    """
    tied = OUTPUT not in curves
    options = {
        name: allowed_of(rules, name, curve, pin=pin_of(rules, name, tied=tied))
        for name, curve in curves.items()
    }
    items: dict[str, dict[str, Curve]] = {}
    for name, curve in options.items():
        items.setdefault(group_of(rules, name), {})[name] = curve
    return {key: together(members) for key, members in items.items()}


def allowed_of(rules: TargetRules, name: str, curve: Curve, *, pin: str | None) -> Curve:
    """What one tensor may be.

    Raises:
        InputError: where that is nothing known.

    """
    if pin is not None:
        return (pinned(name, curve, pin),)
    source = max(curve, key=lambda option: option.n_bytes)
    members = members_of(rules.type_set)
    kept = [o for o in curve if o is source or members is None or o.type.casefold() in members]
    least = [BITS[t.casefold()] for p, t in rules.min_types.items() if re.search(p, name)]
    most = [BITS[t.casefold()] for p, t in rules.max_types.items() if re.search(p, name)]
    found = tuple(o for o in kept if all(bits(o) >= b for b in least))
    found = tuple(o for o in found if all(bits(o) <= b for b in most))
    if not found:
        raise unknown(name, curve, "between its min_types, its max_types and the type_set")
    return found


def members_of(type_set: str) -> frozenset[str] | None:
    """The types of a set; None for all."""
    if type_set == "all":
        return None
    return TYPE_SETS.get(type_set) or frozenset(name.casefold() for name in type_set.split(","))


def pin_of(rules: TargetRules, name: str, *, tied: bool) -> str | None:
    """The type that the user has decided for a tensor; with tied embeddings they are the head."""
    if name == OUTPUT and rules.leave_output_tensor:
        return KEPT
    own = rules.token_embedding_type if name in EMBEDDINGS else None
    own = rules.output_tensor_type if name == OUTPUT else own
    if own is not None:
        return own
    rule = rules.rules.deciding(name)
    if rule is not None:
        return rule[1]
    return rules.output_tensor_type if tied and name == "token_embd.weight" else None


KEPT = "as it is"


def pinned(name: str, curve: Curve, pin: str) -> Option:
    """A tensor at its pin.

    Raises:
        InputError: where the pin has fewer bits than every known type.

    """
    if pin == KEPT:
        return max(curve, key=lambda option: option.n_bytes)
    for option in curve:
        if option.type.casefold() == pin.casefold():
            return option
    wanted = BITS[pin.casefold()]
    below = [option for option in curve if bits(option) <= wanted]
    if not below:
        raise unknown(name, curve, f"at {pin}")
    nearest = min(below, key=lambda option: option.divergence)
    n_elements = 8 * nearest.n_bytes / bits(nearest)
    return Option(type=pin, n_bytes=round(wanted * n_elements / 8), divergence=nearest.divergence)


def bits(option: Option) -> float:
    """Per weight."""
    return BITS[option.type.casefold()]


def group_of(rules: TargetRules, name: str) -> str:
    """What shares a type with a tensor: itself, or a pattern's tensors in its layer."""
    layer, _ = locate(name)
    for at, pattern in enumerate(rules.same_type):
        if re.search(pattern, name):
            return f"same_type {at}, layer {layer}"
    return name


def together(members: Mapping[str, Curve]) -> Curve:
    """Tensors that share a type, at each type that all of them may have.

    Raises:
        InputError: where there is none.

    """
    (first, curve), *others = members.items()
    if not others:
        return curve
    found = []
    for option in curve:
        same = [
            next((o for o in other if o.type.casefold() == option.type.casefold()), None)
            for _, other in others
        ]
        if None not in same:
            each = [option, *(o for o in same if o is not None)]
            found.append(
                Option(
                    type=option.type,
                    n_bytes=sum(o.n_bytes for o in each),
                    divergence=sum(o.divergence for o in each),
                )
            )
    if not found:
        raise unknown(first, curve, f"that it may share with {', '.join(n for n, _ in others)}")
    return tuple(found)


def unknown(name: str, curve: Curve, where: str) -> InputError:
    """The error that names what is known."""
    return InputError(
        f"{name} has no type of known divergence {where}",
        evidence=(f"known: {', '.join(option.type for option in curve)}",),
        hint="a file asked for by kld needs one: allow it, pin to it, or ask for the file by bpw",
    )
