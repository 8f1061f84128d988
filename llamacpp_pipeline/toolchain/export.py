"""The patched tree: a copy of the source with the series applied, made once and kept."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from llamacpp_pipeline.errors import ToolchainError
from llamacpp_pipeline.process.command import Runner
from llamacpp_pipeline.toolchain.locks import locked
from llamacpp_pipeline.toolchain.places import Places, fresh, made
from llamacpp_pipeline.toolchain.series import Series, apply_series
from llamacpp_pipeline.toolchain.source import Choice, Source, fetch
from llamacpp_pipeline.toolchain.talk import Talk
from llamacpp_pipeline.toolchain.tree import Manifest, known_manifest, manifest_of, sha256_of

SOURCE = "source"
MANIFEST = "manifest"


@dataclass(frozen=True, kw_only=True)
class PatchedTree:
    """What is built, and what the converter runs from."""

    folder: Path
    manifest: Manifest

    @property
    def digest(self) -> str:
        """What the tree is known by."""
        return self.manifest.digest


def patched_tree(
    source: Source,
    series: Series,
    choice: Choice,
    places: Places,
    *,
    runner: Runner,
    talk: Talk,
) -> PatchedTree:
    """The patched tree: the one made before, checked, or a new one.

    Raises:
        ToolchainError: no source, or a patch does not apply.

    """
    home = _home(source, series, places)
    known = _intact(home, places)
    if known is not None:
        return known
    lock = places.builds / "locks" / f"tree-{home.name}.lock"
    with locked(lock, talk=talk, waiting="another process is patching llama.cpp: waiting"):
        known = _intact(home, places)
        if known is not None:
            return known
        found = fetch(source, choice, places, runner=runner, talk=talk)
        _discard(home, talk)
        _export(found, series, home, runner=runner)
    made_now = _intact(home, places)
    if made_now is None:
        raise ToolchainError("the patched tree changed while it was made", hint="try again")
    return made_now


def has_patched_tree(source: Source, series: Series, places: Places) -> bool:
    """Whether nothing has to be fetched or patched."""
    return _intact(_home(source, series, places), places) is not None


def copy_tree(source: Path, names: Iterable[str], to: Path) -> None:
    """The named files, with their modes."""
    for name in names:
        target = to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / name, target, follow_symlinks=False)


def source_folder(source: Source) -> Path:
    """Where a fetched source lies.

    Raises:
        ToolchainError: it is not fetched.

    """
    if source.folder is None:
        raise ToolchainError("llama.cpp's source is not fetched", hint="llamacpp-pipeline build")
    return source.folder


def _home(source: Source, series: Series, places: Places) -> Path:
    key = sha256_of(json.dumps(["patched-tree", source.digest, series.digest]).encode())
    return places.builds / "trees" / key


def _intact(home: Path, places: Places) -> PatchedTree | None:
    """The tree, where it is there and every file is as it was made."""
    with contextlib.suppress(OSError, ValueError):
        expected = Manifest.parse(_read(home / MANIFEST))
        found = known_manifest(home / SOURCE, memos=places.memos)
        if found.digest == expected.digest:
            return PatchedTree(folder=home / SOURCE, manifest=found)
    return None


def _read(path: Path) -> str:
    return path.read_bytes().decode("utf-8", errors="surrogateescape")


def _discard(home: Path, talk: Talk) -> None:
    if home.is_dir():
        talk.say("the patched tree in the cache was changed: it is made again")
        shutil.rmtree(home)


def _export(source: Source, series: Series, home: Path, *, runner: Runner) -> None:
    staged = fresh(home.with_name(f".staging-{home.name}"))
    try:
        tree = made(staged / SOURCE)
        copy_tree(source_folder(source), source.manifest.files, tree)
        apply_series(series, tree, runner=runner, skip_applied=source.origin == "path")
        text = manifest_of(tree).text
        (staged / MANIFEST).write_bytes(text.encode("utf-8", errors="surrogateescape"))
        staged.rename(home)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
