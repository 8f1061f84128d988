"""The content-addressed store: what steps left, under the fingerprint of what made it.

    objects/<2>/<fingerprint>/record.json   written last; with the outputs and the log beside it
    staging/<fingerprint>/                  work in progress, by whoever holds the lock
    locks/<fingerprint>                     held while that step is being made
    runs/<random>                           the fingerprints a living run uses; locked by it
    failed/<fingerprint>/log                what the last failure printed
    corrupt/<fingerprint>-<random>/         entries that did not hold what they said
    digests/                                digests of files outside the store
    shared/<key>/                           what steps of a stage reuse (engine/shared.py)

An entry becomes visible by one rename, with its record in it: half of one is never seen.
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
import threading
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from llamacpp_pipeline.engine.digests import Digests, sha256_of, write_atomically
from llamacpp_pipeline.engine.locks import locked, locked_if_free
from llamacpp_pipeline.errors import PipelineError
from llamacpp_pipeline.plan.step import RECORD as RECORD_OUTPUT
from llamacpp_pipeline.results.record import RECORD_SCHEMA, OutputFile, StepRecord

VARIABLE = "LLAMACPP_PIPELINE_STORE"
RECORD = "record.json"
LOG = "log"
FOLDERS = ("objects", "staging", "locks", "runs", "failed", "corrupt", "digests", "shared")
REGISTRY = "registry"  # the lock under which runs register and prune decides

warning = logging.getLogger(__name__).warning


class CorruptEntryError(PipelineError):
    """An entry is there and does not hold what its record says."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A finished step in the store."""

    record: StepRecord
    folder: Path

    def path(self, output: str, member: str | None = None) -> Path:
        """An output: its file, its folder where it is one, or a file inside that folder.

        The output `plan.step.RECORD` is the record itself.

        Raises:
            PipelineError: where the step has no such output.

        """
        if output == RECORD_OUTPUT:
            return self.folder / RECORD
        names = [file.name for file in self.record.outputs if file.output == output]
        top = {name.split("/", 1)[0] for name in names}
        if len(top) != 1:
            raise PipelineError(f"{self.record.stage} left no output called {output!r}")
        place = self.folder / top.pop()
        if member is None:
            return place
        if not (place / member).is_file():
            raise PipelineError(
                f"{self.record.stage}: its output {output!r} holds no {member!r}",
                evidence=names[:8],
            )
        return place / member


class Store:
    """A store in one folder; several processes may use it at once."""

    def __init__(self, root: Path, *, warn: Callable[[str], None] = warning) -> None:
        self.root = root.expanduser().absolute()
        self.warn = warn
        for name in FOLDERS:
            _make(self.root / name, root=self.root)
        self.digests = Digests(self.root / "digests")

    def folder(self, fingerprint: str) -> Path:
        """Where the finished step is, or would be."""
        return self.root / "objects" / fingerprint[:2] / fingerprint

    def staging(self, fingerprint: str) -> Path:
        """Where the step is made."""
        return self.root / "staging" / fingerprint

    def failed_log(self, fingerprint: str) -> Path:
        """What the last failure of the step printed."""
        return self.root / "failed" / fingerprint / LOG

    def lock(self, name: str) -> Path:
        """The lock file of a fingerprint."""
        return self.root / "locks" / name

    def free_bytes(self) -> int:
        """Room left on the store's file system."""
        return shutil.disk_usage(self.root).free

    def lookup(self, fingerprint: str) -> StepRecord | None:
        """The record, where the step is finished; a corrupt entry is a miss with a warning."""
        entry = self.entry(fingerprint)
        return None if entry is None else entry.record

    def entry(self, fingerprint: str) -> Entry | None:
        """The finished step. A corrupt one is moved aside, unless it is being made right now."""
        try:
            return self.read(fingerprint)
        except CorruptEntryError:
            with locked_if_free(self.lock(fingerprint)) as held:
                return self.entry_under_lock(fingerprint) if held else None

    def entry_under_lock(self, fingerprint: str) -> Entry | None:
        """The same, for the holder of the fingerprint's lock."""
        try:
            return self.read(fingerprint)
        except CorruptEntryError as error:
            self.warn(f"{error.message}: {'; '.join(error.evidence)}; it is made again")
            self.set_aside(fingerprint)
            return None

    def read(self, fingerprint: str, *, digests: bool = False) -> Entry | None:
        """The finished step, checked by the sizes of its files, or by their digests too.

        Raises:
            CorruptEntryError: where it does not hold what its record says.

        """
        folder = self.folder(fingerprint)
        try:
            text = (folder / RECORD).read_text(encoding="utf-8")
        except FileNotFoundError:
            if folder.exists():
                raise _corrupt(fingerprint, "it has no record") from None
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise _corrupt(fingerprint, f"its record cannot be read: {error}") from error
        record = _record(text, fingerprint)
        for file in record.outputs:
            _check(folder, file, fingerprint, digests=digests)
        return Entry(record=record, folder=folder)

    @contextmanager
    def claimed(
        self,
        fingerprint: str,
        *,
        waiting: Callable[[], None] | None = None,
        stop: threading.Event | None = None,
    ) -> Iterator[None]:
        """Hold the right to make this step; another process that makes it is waited for.

        Raises:
            InterruptedRunError: `stop` was set meanwhile.

        """
        with locked(self.lock(fingerprint), waiting=waiting, stop=stop):
            yield

    @contextmanager
    def workplace(self, fingerprint: str) -> Iterator[Path]:
        """An empty staging folder, gone afterwards unless published. The claim must be held."""
        folder = self.staging(fingerprint)
        remove(folder)
        folder.mkdir()
        try:
            yield folder
        finally:
            remove(folder)

    def publish(self, record: StepRecord) -> Entry:
        """Make the staging folder of the record's fingerprint visible, record last."""
        staging, final = self.staging(record.fingerprint), self.folder(record.fingerprint)
        for file in record.outputs:
            (staging / file.name).chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
        write_atomically(staging / RECORD, record.model_dump_json(indent=1) + "\n")
        final.parent.mkdir(exist_ok=True)
        if final.exists():
            self.discard(record.fingerprint)  # made again on request
        staging.rename(final)
        remove(self.failed_log(record.fingerprint).parent)
        return Entry(record=record, folder=final)

    def set_aside(self, fingerprint: str) -> None:
        """Move an entry out of sight. The claim must be held."""
        target = self.root / "corrupt" / f"{fingerprint}-{uuid.uuid4().hex[:8]}"
        self.folder(fingerprint).rename(target)

    def discard(self, fingerprint: str) -> None:
        """Delete an entry: out of sight first. The claim must be held."""
        leaving = self.root / "staging" / f"{fingerprint}.leaving"
        remove(leaving)
        self.folder(fingerprint).rename(leaving)
        remove(leaving)

    def keep_log(self, fingerprint: str, log: Path) -> Path:
        """Keep the log of a failure outside the staging folder; returns where it is."""
        kept = self.failed_log(fingerprint)
        kept.parent.mkdir(exist_ok=True)
        return log.replace(kept)

    def touch(self, entry: Entry) -> None:
        """Note that the entry was used now, which is what prune goes by."""
        with suppress(OSError):  # somebody else's store may be read-only for us
            os.utime(entry.folder / RECORD)

    def fingerprints(self) -> list[str]:
        """Every entry, finished or corrupt."""
        return sorted(folder.name for folder in (self.root / "objects").glob("??/*"))

    @contextmanager
    def in_use(self, fingerprints: Collection[str]) -> Iterator[None]:
        """While this lasts, prune keeps its hands off these entries."""
        path = self.root / "runs" / uuid.uuid4().hex
        with locked(path):
            with locked(self.lock(REGISTRY)):
                path.write_text("\n".join(fingerprints), encoding="utf-8")
            self.used()  # which clears away what dead runs left
            self.sweep()
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def used(self) -> set[str]:
        """The fingerprints of all living runs. Files of dead ones are removed on the way."""
        found: set[str] = set()
        for path in (self.root / "runs").iterdir():
            with locked_if_free(path) as dead:
                if dead:
                    path.unlink(missing_ok=True)
                else:
                    found.update(path.read_text(encoding="utf-8").split())
        return found

    def sweep(self) -> None:
        """Remove staging folders that dead processes left."""
        for folder in (self.root / "staging").iterdir():
            with locked_if_free(self.lock(folder.name.partition(".")[0])) as dead:
                if dead:
                    remove(folder)


def default_root(environ: Mapping[str, str]) -> Path:
    """`LLAMACPP_PIPELINE_STORE`, or the store in the user's cache folder."""
    if environ.get(VARIABLE):
        return Path(environ[VARIABLE])
    cache = environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "llamacpp-pipeline" / "store"


def open_store(root: Path | None = None, *, warn: Callable[[str], None] = warning) -> Store:
    """The store named, or the default one."""
    return Store(root or default_root(os.environ), warn=warn)


def remove(folder: Path) -> None:
    """Delete a folder, where it is there."""
    shutil.rmtree(folder, ignore_errors=True)


def _make(folder: Path, *, root: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PipelineError(
            f"the store cannot be made in {root}",
            evidence=(str(error),),
            hint=f"name another folder: --store DIR, or the variable {VARIABLE}",
        ) from error


def _record(text: str, fingerprint: str) -> StepRecord:
    try:
        record = StepRecord.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise _corrupt(fingerprint, f"its record is not valid: {where} {first['msg']}") from error
    if record.schema_version != RECORD_SCHEMA:
        raise _corrupt(fingerprint, f"its record has schema {record.schema_version}")
    if record.fingerprint != fingerprint:
        raise _corrupt(fingerprint, f"its record is of {record.fingerprint}")
    return record


def _check(folder: Path, file: OutputFile, fingerprint: str, *, digests: bool) -> None:
    path = folder / file.name
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise _corrupt(fingerprint, f"{file.name} is missing") from None
    if size != file.size_bytes:
        raise _corrupt(fingerprint, f"{file.name} has {size} bytes instead of {file.size_bytes}")
    if digests and sha256_of(path) != file.sha256:
        raise _corrupt(fingerprint, f"{file.name} does not have the digest it had")


def _corrupt(fingerprint: str, why: str) -> CorruptEntryError:
    return CorruptEntryError(f"store entry {fingerprint[:12]} is corrupt", evidence=(why,))
