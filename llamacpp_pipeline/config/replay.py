"""The configuration of a finished run as one that runs the same again: what its files need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Json = dict[str, Any]
MEASURED_ONLY = ("bench", "tasks", "datasets", "memory")  # no file depends on them
UNUSED = (*MEASURED_ONLY, "selection")  # where there is nothing to choose from, nor to validate
EVALUATION = {"demo": "evaluation"}  # stands in for a text that is not at hand


def replayed(config: Mapping[str, Any], *, commits: Mapping[str, str]) -> Json:
    """The configuration less what is only measured, every revision pinned.

    Args:
        config: As the manifest has it.
        commits: Hub repository -> the commit that was used.

    """
    kept: Json = pinned(dict(config), commits)
    if not any(variant.get("candidates") for variant in kept["variants"]):
        unused = MEASURED_ONLY if kept.get("sensitivity") else UNUSED
        kept = {k: v for k, v in kept.items() if k not in unused} | {"bench": None}
    matched = {variant.get("match") for variant in kept["variants"]}
    references = kept.get("references") or ()
    kept["references"] = [other for other in references if other["name"] in matched]
    return kept | {"card": {**kept.get("card", {}), "compare": [], "template": None}}


def pinned(value: Any, commits: Mapping[str, str]) -> Any:  # noqa: ANN401  any JSON value
    """Every repository at the commit that was used, where that is known."""
    if isinstance(value, Mapping):
        inner = {key: pinned(item, commits) for key, item in value.items()}
        if "revision" in inner and inner.get("repo") in commits:
            inner["revision"] = commits[inner["repo"]]
        return inner
    if isinstance(value, (list, tuple)):
        return [pinned(item, commits) for item in value]
    return value


def without_evaluation(config: Json) -> Json:
    """The configuration with the demo's text to measure on: only for what is not measured."""
    return {**config, "evaluation": {**config["evaluation"], "corpus": EVALUATION}}


def with_imatrix(config: Json, path: str) -> Json:
    """The configuration with a finished imatrix in place of its calibration."""
    return {**config, "calibration": None, "imatrix": {"path": path}}


def names_no_file(config: Mapping[str, Any], overrides: Sequence[str], key: str) -> bool:
    """Whether the value at a dotted key is the bare name of a file that nobody has placed."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return isinstance(value, str) and not any(text.startswith(f"{key}=") for text in overrides)
