"""Folders of the store that several steps share: what a tool may reuse, and checks before it does.

They are no part of any result and of no fingerprint: a step's outputs are the same without them.
They survive whatever ends a run, and go when `cache prune` removes them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from llamacpp_pipeline.engine.locks import locked_if_free, locked_with_others
from llamacpp_pipeline.engine.store import Store, remove


@dataclass(frozen=True, kw_only=True)
class SharedFolder:
    """One of them."""

    key: str
    size_bytes: int
    used: float  # when it was last used, in seconds since 1970


@contextmanager
def in_common(store: Store, key: str) -> Iterator[Path]:
    """The folder of that key; while this lasts nobody removes it, and others may use it too."""
    with locked_with_others(_lock(store, key)):
        folder = _folder(store, key)
        folder.mkdir(exist_ok=True)
        os.utime(folder)
        yield folder


def shared_folders(store: Store) -> list[SharedFolder]:
    """Every shared folder, the least recently used first."""
    found = [
        SharedFolder(
            key=folder.name,
            size_bytes=sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()),
            used=folder.stat().st_mtime,
        )
        for folder in (store.root / "shared").iterdir()
        if folder.is_dir()
    ]
    return sorted(found, key=lambda folder: folder.used)


def discard_shared(store: Store, key: str) -> bool:
    """Delete a shared folder, unless a step uses it now; says whether it is gone."""
    lock = _lock(store, key)
    with locked_if_free(lock) as held:
        if held:
            remove(_folder(store, key))
            lock.unlink(missing_ok=True)
    return held


def prune_shared(
    store: Store, *, older_than: float | None, everything: bool, dry_run: bool
) -> list[SharedFolder]:
    """Delete those last used before `older_than`, or all; never one that is in use.

    Returns those that went, or would.
    """
    return [
        folder
        for folder in shared_folders(store)
        if (everything or (older_than is not None and folder.used < older_than))
        and (dry_run or discard_shared(store, folder.key))
    ]


def _folder(store: Store, key: str) -> Path:
    return store.root / "shared" / key


def _lock(store: Store, key: str) -> Path:
    return store.lock(f"shared-{key}")
