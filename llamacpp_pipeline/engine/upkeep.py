"""Looking after a store: what is in it, whether it is whole, and making room."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llamacpp_pipeline.engine.locks import locked, locked_if_free
from llamacpp_pipeline.engine.store import RECORD, REGISTRY, CorruptEntryError, Store, remove


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One entry of a store. `stage` is None where its record cannot be read."""

    fingerprint: str
    stage: str | None
    size_bytes: int
    used: float  # when it was last used, in seconds since 1970
    started: str | None
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What prune removed (or would), and what it left because a living run uses it."""

    removed: tuple[Listed, ...]
    in_use: tuple[Listed, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes made free."""
        return sum(entry.size_bytes for entry in self.removed)


def listing(store: Store, *, digests: bool = False) -> Iterator[Listed]:
    """Every entry; with `digests` every byte is read."""
    for fingerprint in store.fingerprints():
        listed = _listed(store, fingerprint, digests=digests)
        if listed is not None:
            yield listed


def verify(store: Store) -> Iterator[Listed]:
    """Read every byte of every entry; those that changed are moved aside."""
    for listed in listing(store, digests=True):
        if listed.problem is not None:
            with locked_if_free(store.lock(listed.fingerprint)) as held:
                if held and store.folder(listed.fingerprint).exists():
                    store.set_aside(listed.fingerprint)
        yield listed


def prune(
    store: Store,
    *,
    older_than: float | None = None,
    max_bytes: int | None = None,
    dry_run: bool = False,
) -> Pruned:
    """Remove entries: those last used before `older_than`, then until all fit in `max_bytes`.

    The least recently used go first. What a living run uses, or is making, stays.
    """
    with locked(store.lock(REGISTRY)):
        used = store.used()
        entries = sorted(listing(store), key=lambda entry: entry.used)
        chosen = _chosen(entries, older_than=older_than, max_bytes=max_bytes)
        spared = [entry for entry in chosen if entry.fingerprint in used]
        leaving = [entry for entry in chosen if entry.fingerprint not in used]
        removed = [entry for entry in leaving if dry_run or _discarded(store, entry)]
        spared += [entry for entry in leaving if entry not in removed]
    return Pruned(removed=tuple(removed), in_use=tuple(spared))


def leftovers(store: Store) -> list[Path]:
    """Folders of failed and corrupt steps."""
    return sorted(path for name in ("failed", "corrupt") for path in (store.root / name).iterdir())


def clear(folders: Iterable[Path]) -> None:
    """Delete leftovers."""
    for folder in folders:
        remove(folder)


def _chosen(
    entries: list[Listed], *, older_than: float | None, max_bytes: int | None
) -> list[Listed]:
    """Entries come least recently used first."""
    chosen = [entry for entry in entries if older_than is not None and entry.used < older_than]
    staying = [entry for entry in entries if entry not in chosen]
    excess = sum(entry.size_bytes for entry in staying) - (
        max_bytes if max_bytes is not None else float("inf")
    )
    for entry in staying:
        if excess <= 0:
            break
        chosen.append(entry)
        excess -= entry.size_bytes
    return chosen


def _discarded(store: Store, entry: Listed) -> bool:
    lock = store.lock(entry.fingerprint)
    with locked_if_free(lock) as held:
        if held:
            store.discard(entry.fingerprint)
            lock.unlink(missing_ok=True)
    return held


def _listed(store: Store, fingerprint: str, *, digests: bool) -> Listed | None:
    folder = store.folder(fingerprint)
    record, problem = None, None
    try:
        entry = store.read(fingerprint, digests=digests)
    except CorruptEntryError as error:
        problem = "; ".join(error.evidence)
    else:
        if entry is None:
            return None  # removed since it was listed
        record = entry.record
    return Listed(
        fingerprint=fingerprint,
        stage=None if record is None else record.stage,
        size_bytes=_size(folder),
        used=_last_used(folder),
        started=None if record is None else record.started,
        problem=problem,
    )


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def _last_used(folder: Path) -> float:
    record = folder / RECORD
    return (record if record.exists() else folder).stat().st_mtime
