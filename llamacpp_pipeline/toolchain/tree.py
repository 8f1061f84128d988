"""A source tree known by its content: one digest over every file, and how two trees differ.

The digest is that of the manifest's own text, which is what `sha256sum` writes and checks:
one line a file, sorted by path.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from llamacpp_pipeline.errors import ToolchainError
from llamacpp_pipeline.toolchain.places import write_whole

LEFT_OUT = frozenset({".git", "__pycache__"})
BUILD_MARK = "CMakeCache.txt"
SHOWN = 8


@dataclass(frozen=True)
class Manifest:
    """The sha256 of every file of a tree, by its path with forward slashes."""

    files: Mapping[str, str]

    @cached_property
    def text(self) -> str:
        """One line a file, sorted by the bytes of its path."""
        names = sorted(self.files, key=os.fsencode)
        return "".join(f"{self.files[name]}  {name}\n" for name in names)

    @cached_property
    def digest(self) -> str:
        """What the whole tree is known by."""
        return sha256_of(os.fsencode(self.text))

    @classmethod
    def parse(cls, text: str) -> Manifest:
        """What `text` gave.

        Raises:
            ValueError: a line is not `<sha256>  <path>`.

        """
        files: dict[str, str] = {}
        for line in text.splitlines():
            digest, gap, name = line.partition("  ")
            if len(digest) != 64 or not gap or not name:
                message = f"not a line of a tree's manifest: {line!r}"
                raise ValueError(message)
            files[name] = digest
        return cls(files)

    def differences(self, found: Manifest) -> tuple[str, ...]:
        """How `found` differs from this, one line a path, in the order of the paths."""
        words = {
            name: _difference(self.files.get(name), found.files.get(name))
            for name in sorted({*self.files, *found.files})
        }
        return tuple(f"{word}: {name}" for name, word in words.items() if word is not None)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file as a folder lists it, without its content."""

    name: str
    path: str
    size: int
    mtime_ns: int
    is_link: bool


def scan(folder: Path, *, skip_builds: bool = False) -> list[Entry]:
    """Every file below `folder`, sorted; `.git` and `__pycache__` are no part of a tree.

    `skip_builds` also leaves out folders that CMake configured: a user's checkout has some.
    """
    entries = list(_walk(str(folder), "", skip_builds=skip_builds))
    entries.sort(key=lambda entry: os.fsencode(entry.name))
    return entries


def manifest_of(folder: Path, *, skip_builds: bool = False) -> Manifest:
    """The manifest of a folder, every file read."""
    return Manifest({entry.name: _digest(entry) for entry in scan(folder, skip_builds=skip_builds)})


def known_manifest(folder: Path, *, memos: Path, skip_builds: bool = False) -> Manifest:
    """The manifest of a folder, read again only where names, sizes or times have changed."""
    entries = scan(folder, skip_builds=skip_builds)
    listing = "".join(f"{e.name}\0{e.size}\0{e.mtime_ns}\0{e.is_link}\n" for e in entries)
    stamp = sha256_of(os.fsencode(listing))
    memo = memos / f"tree-{sha256_of(os.fsencode(folder.resolve()))}"
    remembered = _remembered(memo, stamp)
    if remembered is not None:
        return remembered
    manifest = Manifest({entry.name: _digest(entry) for entry in entries})
    write_whole(memo, f"{stamp}\n{manifest.text}")
    return manifest


def require_same(expected: Manifest, found: Manifest, *, what: str, hint: str) -> None:
    """Nothing, where the trees are the same.

    Raises:
        ToolchainError: they differ; the first paths that do are the evidence.

    """
    if expected.digest == found.digest:
        return
    lines = expected.differences(found)
    more = () if len(lines) <= SHOWN else (f"and {len(lines) - SHOWN} more",)
    raise ToolchainError(
        f"{what} is not the llama.cpp that this pipeline is made for",
        evidence=(*lines[:SHOWN], *more),
        hint=hint,
    )


def sha256_of(data: bytes) -> str:
    """The digest of some bytes."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """The digest of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _walk(folder: str, prefix: str, *, skip_builds: bool) -> Iterator[Entry]:
    with os.scandir(folder) as listed:
        found = [entry for entry in listed if entry.name not in LEFT_OUT]
    if skip_builds and prefix and any(entry.name == BUILD_MARK for entry in found):
        return
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, f"{prefix}{entry.name}/", skip_builds=skip_builds)
        else:
            yield _entry(entry, prefix)


def _entry(entry: os.DirEntry[str], prefix: str) -> Entry:
    status = entry.stat(follow_symlinks=False)
    return Entry(
        name=prefix + entry.name,
        path=entry.path,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        is_link=stat.S_ISLNK(status.st_mode),
    )


def _digest(entry: Entry) -> str:
    if entry.is_link:
        return sha256_of(b"link to " + os.fsencode(Path(entry.path).readlink()))
    return file_sha256(Path(entry.path))


def _remembered(memo: Path, stamp: str) -> Manifest | None:
    with contextlib.suppress(OSError, ValueError):
        first, _, rest = os.fsdecode(memo.read_bytes()).partition("\n")
        if first == stamp:
            return Manifest.parse(rest)
    return None


def _difference(expected: str | None, found: str | None) -> str | None:
    if expected == found:
        return None
    if found is None:
        return "missing"
    return "not expected" if expected is None else "different"
