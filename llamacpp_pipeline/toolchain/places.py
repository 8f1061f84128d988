"""Where sources, patched trees, builds and memos live: in the user's cache, never in a checkout."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from llamacpp_pipeline.errors import ToolchainError

APPLICATION = "llamacpp-pipeline"
BUILDS_VARIABLE = "LLAMACPP_PIPELINE_BUILDS"
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Places:
    """Folders of the toolchain. Those of a cache are made when they are first written to."""

    sources: Path
    builds: Path
    memos: Path
    submodule: Path = REPOSITORY / "vendor" / "llama.cpp"
    patches: Path = REPOSITORY / "patches"

    @classmethod
    def from_environment(cls) -> Places:
        """The user's cache, as XDG_CACHE_HOME and LLAMACPP_PIPELINE_BUILDS have it."""
        cache = cache_folder()
        builds = os.environ.get(BUILDS_VARIABLE)
        return cls(
            sources=cache / "sources",
            builds=Path(builds).absolute() if builds else cache / "builds",
            memos=cache / "memos",
        )


def cache_folder() -> Path:
    """The folder of this program in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / APPLICATION


def made(folder: Path) -> Path:
    """The folder, which exists from now on.

    Raises:
        ToolchainError: it cannot be made.

    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ToolchainError(
            "a folder of the cache could not be made",
            evidence=(str(error),),
            hint=f"set XDG_CACHE_HOME (or {BUILDS_VARIABLE}) to a folder that can be written",
        ) from error
    return folder


def fresh(folder: Path) -> Path:
    """The folder, empty: what a process that was killed left in it is gone.

    Raises:
        ToolchainError: it cannot be made.

    """
    shutil.rmtree(folder, ignore_errors=True)
    return made(folder)


def write_whole(path: Path, text: str) -> None:
    """The file, all of it or as it was before."""
    staged = made(path.parent) / f".{path.name}.{os.getpid()}"
    staged.write_bytes(os.fsencode(text))
    staged.replace(path)
