"""What pydantic found, in words for the person who wrote the YAML."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from llamacpp_pipeline.config.clashes import ClashError
from llamacpp_pipeline.config.nodes import Node, Problem, dotted
from llamacpp_pipeline.config.schema import PipelineConfig
from llamacpp_pipeline.config.spelling import did_you_mean

Loc = tuple[str | int, ...]
QUOTED = re.compile(r"'([^']*)'")
WANTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "dict_type": "a mapping of keys",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
}


def problems_of(error: ValidationError, tree: Node) -> tuple[Problem, ...]:
    """Every problem, where its value or key stands."""
    found = error.errors()
    return tuple(p for e in found if not explained(e, found) for p in problems_in(e, tree))


def explained(details: ErrorDetails, found: Sequence[ErrorDetails]) -> bool:
    """Whether a list is too short only for pydantic, because its entries are wrong."""
    loc = details["loc"]
    within = (len(e["loc"]) > len(loc) and e["loc"][: len(loc)] == loc for e in found)
    return details["type"] == "too_short" and any(within)


def problems_in(details: ErrorDetails, tree: Node) -> tuple[Problem, ...]:
    """One error of pydantic's: one problem, or all the clashes it carries."""
    cause = details.get("ctx", {}).get("error")
    if isinstance(cause, ClashError):
        return tuple(problem(tree, clash.path, clash.message) for clash in cause.clashes)
    loc = details["loc"]
    if details["type"] == "extra_forbidden":
        return (problem(tree, loc, unknown_key(loc), at_key=True),)
    words = message(details, nearest(tree, loc))
    at_key = loc[-1:] == ("[key]",)  # pydantic's name for the key itself
    return (problem(tree, loc[:-1] if at_key else loc, words, at_key=at_key),)


def problem(tree: Node, loc: Loc, text: str, *, at_key: bool = False) -> Problem:
    """A problem at the deepest place of `loc` that was written."""
    node = nearest(tree, loc)
    origin = node.key_origin if at_key and node.key_origin is not None else node.origin
    return Problem(where=origin.where, path=dotted(loc), message=text)


def nearest(tree: Node, loc: Loc) -> Node:
    """The value at `loc`, or the deepest written one above it."""
    node = tree
    for part in loc:
        child = node.child(part)
        if child is None:
            return node
        node = child
    return node


def unknown_key(loc: Loc) -> str:
    """A key that is not known here, with the known one it resembles, or with all of them."""
    known = keys_at(loc[:-1])
    near = did_you_mean(str(loc[-1]), known)
    return f"unknown key{near}" if near else f"unknown key: known here are {', '.join(known)}"


def keys_at(loc: Sequence[str | int]) -> tuple[str, ...]:
    """The keys that the section at `loc` may have."""
    model: type[BaseModel] = PipelineConfig
    for part in loc:
        field = model.model_fields.get(str(part))
        inner = None if field is None else section_in(field.annotation)
        model = inner or model  # a list position stays where it is
    return tuple(model.model_fields)


def section_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401  any type form
    """The section that a field holds, in an Optional or a list too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := section_in(arg))), None)


def message(details: ErrorDetails, node: Node) -> str:
    """What is wrong with a value, and how to write it."""
    kind = details["type"]
    if kind == "missing":
        return "is missing"
    if kind in WANTED:
        return f"must be {WANTED[kind]}, not {written(node)}{advice(kind, node)}"
    return SPECIAL.get(kind, as_it_is)(details, node)


def written(node: Node) -> str:
    """A value as it stands in the YAML."""
    if node.text is None:
        return "a list" if isinstance(node.value, tuple) else "a mapping"
    if node.value is None:
        return "nothing"
    return f"the text '{node.text}'" if isinstance(node.value, str) else node.text


def advice(kind: str, node: Node) -> str:
    """How to write what YAML 1.1 reads otherwise than meant."""
    text = node.text or ""
    if kind == "string_type" and isinstance(node.value, bool):
        return f": YAML reads {text} as {str(node.value).lower()}; write '{text}' in quotes"
    if kind == "string_type" and isinstance(node.value, (int, float)):
        return f": write '{text}' in quotes"
    if kind in ("int_type", "float_type") and isinstance(node.value, str):
        return number_advice(node, text)
    if kind == "tuple_type" and text:
        return f": write [{text}]"
    if kind == "int_type" and isinstance(node.value, float) and node.value.is_integer():
        return f": write {int(node.value)}"
    return ""


def number_advice(node: Node, text: str) -> str:
    """A number that is text: quoted, or in a form that only other readers know."""
    try:
        number = float(text)
    except ValueError:
        return ""
    plain = f"{int(number)}" if number.is_integer() else f"{number}"
    if "e" in plain:
        plain = f"{number:f}".rstrip("0")
    why = "the quotes make it text" if node.quoted else f"YAML reads {text} as text"
    return f": {why}; write {plain}"


def not_a_choice(details: ErrorDetails, node: Node) -> str:
    """A word that is none of the few allowed."""
    expected = details.get("ctx", {}).get("expected", "")
    if isinstance(node.value, bool) and node.text is not None:
        read = str(node.value).lower()
        return f"YAML reads {node.text} as {read}; write '{node.text.lower()}' in quotes"
    near = did_you_mean(node.text or "", QUOTED.findall(expected))
    return f"{written(node)} is none of {expected}{near}"


def not_the_form(details: ErrorDetails, node: Node) -> str:
    """Text that a pattern refuses."""
    pattern = details.get("ctx", {}).get("pattern", "")
    meaning = FORMS.get(pattern, f"text that matches {pattern}")
    return f"'{node.text}' is not {meaning}"


def own_words(details: ErrorDetails, _node: Node) -> str:
    """A validator of ours has said it."""
    return details["msg"].removeprefix("Value error, ")


def too_few(details: ErrorDetails, _node: Node) -> str:
    """A list that must not be so short."""
    least = details.get("ctx", {}).get("min_length")
    return f"needs at least {least} entry" if least == 1 else f"needs at least {least} entries"


def as_it_is(details: ErrorDetails, node: Node) -> str:
    """Pydantic's own words: "Input should be greater than 0", with the value."""
    words = details["msg"].removeprefix("Input should be ")
    return f"must be {words}, not {written(node)}" if words != details["msg"] else words


FORMS = {
    r"^[0-9a-f]{64}$": "a sha256 of 64 lower-case hexadecimal digits",
    r"^[A-Za-z0-9][A-Za-z0-9._+-]*$": "a file name of letters, digits and . _ + -",
    r"^[\w.-]+(/[\w.-]+)?$": "a Hub id such as Qwen/Qwen3.5-9B",
    r"^[\w.-]+/[\w.-]+$": "a Hub id with its owner: owner/name",
    r"^https?://\S+$": "an address that begins with http:// or https://",
    r"^(pp\d+|tg\d+|pp\d+\+tg\d+)$": "a test such as pp512, tg128 or pp1024+tg1024",
}
SPECIAL: dict[str, Callable[[ErrorDetails, Node], str]] = {
    "literal_error": not_a_choice,
    "string_pattern_mismatch": not_the_form,
    "value_error": own_words,
    "too_short": too_few,
}
