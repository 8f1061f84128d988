"""Files of a model repository on the Hub, at one commit, into the store."""

from __future__ import annotations

from typing import Literal

from llamacpp_pipeline.stages.base import Frozen


class FetchParams(Frozen):
    """Which files of which commit: all of it is hashed."""

    repo: str  # "Qwen/Qwen3.5-9B"
    repo_type: Literal["model", "dataset"] = "model"
    commit: str  # the full sha, resolved before planning
    files: tuple[str, ...]  # glob patterns of the files wanted
    member: str | None = None  # a file inside the one (zip) file wanted, unpacked beside it
    sha256: str | None = None  # what the one file (or the member) must be


class FetchedFile(Frozen):
    name: str
    size_bytes: int
    sha256: str


class FetchResult(Frozen):
    repo: str
    commit: str
    files: tuple[FetchedFile, ...]
