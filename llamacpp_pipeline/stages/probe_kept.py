"""The file that a probe appends to, which outlives an interruption, and what is taken of it.

It lies in the folder that steps of one model, text, imatrix and build share. Its name is a digest
of all parameters but the time, so that it never holds a line that another step asked for.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

from pydantic import ValidationError as WrongFormError

from llamacpp_pipeline.stages.base import SHARED, Frozen, Paths
from llamacpp_pipeline.stages.probe_lines import Measurement

BUDGET = frozenset({"minutes"})  # how many of the measurements there are, not what they are


def kept_file(params: Frozen, paths: Paths) -> Path:
    """Where a probe with these parameters keeps its measurements while it runs, and after."""
    same = json.dumps(params.model_dump(mode="json", exclude=set(BUDGET)), sort_keys=True)
    return paths[SHARED] / f"{sha256(same.encode()).hexdigest()[:16]}.jsonl"


def take(params: Frozen, paths: Paths) -> None:
    """Copy what was measured to the output, each measurement once, the floor first.

    Lines that the tool reuses although they are no measurements are copied too, for `parse` to
    refuse, and taken out of what is kept, so that the next attempt measures them.
    """
    kept = kept_file(params, paths)
    if not kept.is_file():
        return  # the output is missing, which the engine says
    lines = reused_lines(kept)
    paths["measurements"].write_text(joined(lines), encoding="utf-8")
    good = [line for line in lines if is_measurement(line)]
    if len(good) < len(lines):
        new = kept.with_suffix(".new")
        new.write_text(joined(good), encoding="utf-8")
        new.replace(kept)


def reused_lines(file: Path) -> list[str]:
    """The lines that the tool does not measure again, once each; a torn one is none of them."""
    found: dict[str, str] = {}
    for line in file.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
        key = key_of(line)
        if key is not None:
            found.setdefault(key, line)  # twice where two runs measured at the same time
    return sorted(found.values(), key=lambda line: bool(json.loads(line).get("tensors")))


def key_of(line: str) -> str | None:
    """By what the tool knows a line; None where it ignores it."""
    try:
        document = json.loads(line)
    except ValueError:
        return None
    key = document.get("key") if isinstance(document, dict) else None
    return key if isinstance(key, str) else None


def is_measurement(line: str) -> bool:
    """Whether `parse` takes it."""
    try:
        Measurement.model_validate_json(line)
    except WrongFormError:
        return False
    return True


def joined(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
