"""Identity is what made it: a step's fingerprint from all that can change its outputs, and no more.

What is hashed is a document of a step: plain JSON values, each structure led by a tag so that two
kinds can never be taken for each other. Documents are small; the store may keep the last one of a
step's key, and `explain` then says why a step is a miss.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from llamacpp_pipeline.plan.order import ordered
from llamacpp_pipeline.plan.step import Input, Leaf, Plan, Step
from llamacpp_pipeline.stages.base import ADDED_LATER, MadeBy

Identity = Callable[[MadeBy], str]
Document = dict[str, Any]
DOCUMENT_VERSION = 1  # bump when a document changes shape: every step is then a miss
SHORT = 12  # digits shown of a digest; never what is compared


def fingerprints(plan: Plan, *, identity: Identity, machine: str) -> dict[str, str]:
    """The fingerprint of each step, by its key."""
    return {
        key: fingerprint(document)
        for key, document in documents(plan, identity=identity, machine=machine).items()
    }


def documents(plan: Plan, *, identity: Identity, machine: str) -> dict[str, Document]:
    """What is hashed for each step, by its key, in an order in which they can run."""
    found: dict[str, Document] = {}
    known: dict[str, str] = {}
    for step in ordered(plan.steps):
        found[step.key] = document(step, known=known, identity=identity, machine=machine)
        known[step.key] = fingerprint(found[step.key])
    return found


def document(step: Step, *, known: Mapping[str, str], identity: Identity, machine: str) -> Document:
    """All that identifies one step. Its key, labels, paths and placement do not.

    Placement and machine are in where the numbers are of this machine (bench).
    """
    stage = step.stage
    body: Document = {
        "tag": "step",
        "document": DOCUMENT_VERSION,
        "stage": stage.name,
        "stage_version": stage.version,
        "params": canonical(step.params),
        "made_by": [stage.made_by, identity(stage.made_by)],
        "inputs": {name: source(value, known) for name, value in sorted(step.inputs.items())},
    }
    if step.labels:
        body["labels"] = canonical(step.labels)
    if stage.machine_bound:
        body["placement"] = canonical(step.placement)
        body["machine"] = machine
    return body


def source(value: Input, known: Mapping[str, str]) -> Document:
    """An input, by its content or by what makes it."""
    if isinstance(value, Leaf):
        return {"tag": "leaf", "digest": value.digest}
    made: Document = {"tag": "output", "step": known[value.step], "output": value.output}
    return made if value.member is None else {**made, "member": value.member}


def fingerprint(body: Document) -> str:
    """The sha256 of a document."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def canonical(value: object) -> Any:  # noqa: ANN401  any JSON value
    """A parameter as JSON that says one thing in one way.

    A mapping of the user's is a list of pairs: among tensor type patterns the first match wins,
    so their order is meaning.

    Raises:
        TypeError: for a value that has no one such form.

    """
    if isinstance(value, BaseModel):
        return {"tag": "fields", **{name: canonical(said) for name, said in hashed(value)}}
    if isinstance(value, Mapping):
        return {"tag": "pairs", "pairs": [[str(k), canonical(v)] for k, v in value.items()]}
    if isinstance(value, (tuple, list)):
        return [canonical(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        message = f"{value} cannot be part of a fingerprint"
        raise TypeError(message)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    message = f"{value!r} of type {type(value).__name__} cannot be part of a fingerprint"
    raise TypeError(message)


def hashed(value: BaseModel) -> Iterator[tuple[str, object]]:
    """The fields of a value, but those that were added later and are not used."""
    for name, field in type(value).model_fields.items():
        said = getattr(value, name)
        if said is not None or ADDED_LATER not in field.metadata:
            yield name, said


def explain(old: Document, new: Document) -> tuple[str, ...]:
    """How two documents of a step differ: `params.n_ctx: 512 -> 256`. Empty where they do not."""
    before, after = dict(flat(old)), dict(flat(new))
    names = dict.fromkeys((*before, *after))
    return tuple(
        f"{name}: {short(before.get(name, ABSENT))} -> {short(after.get(name, ABSENT))}"
        for name in names
        if before.get(name, ABSENT) != after.get(name, ABSENT)
    )


ABSENT = "(absent)"


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    """The parts of a document by dotted name."""
    if isinstance(value, Mapping) and value.get("tag") == "pairs":
        yield path, "{" + ", ".join(f"{k}: {v}" for k, v in value["pairs"]) + "}"
        return
    if not isinstance(value, Mapping):
        yield path, value
        return
    for key, inner in value.items():
        if key != "tag":
            yield from flat(inner, f"{path}.{key}" if path else key)


def short(value: object) -> str:
    """A value for people; a digest by its first digits."""
    text = value if isinstance(value, str) else json.dumps(value)
    digest = len(text) == 64 and all(digit in "0123456789abcdef" for digit in text)
    return f"{text[:SHORT]}..." if digest else text
