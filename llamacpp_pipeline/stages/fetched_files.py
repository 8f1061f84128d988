"""Files on their way from the Hub into the store: digests, archives, and what is remembered."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

from llamacpp_pipeline.errors import InputError
from llamacpp_pipeline.toolchain.places import cache_folder, write_whole

STORE_VARIABLE = "LLAMACPP_PIPELINE_STORE"
DOWNLOADS_VARIABLE = "LLAMACPP_PIPELINE_DOWNLOADS"


def downloads_folder(repo: str, repo_type: str, commit: str) -> Path:
    """Where unfinished downloads of one commit wait to be gone on with, beside the store."""
    named, store = os.environ.get(DOWNLOADS_VARIABLE), os.environ.get(STORE_VARIABLE)
    beside = Path(store) / "downloads" if store else cache_folder() / "downloads"
    parent = Path(named) if named else beside
    return parent.absolute() / f"{repo_type}s--{repo.replace('/', '--')}" / commit


@contextmanager
def one_at_a_time(lock: Path) -> Iterator[None]:
    """Hold the lock file; waits while another process does."""
    with lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def remember_commit(repo: str, repo_type: str, revision: str, commit: str) -> None:
    """Keep what a revision was last seen to be."""
    known = remembered()
    key = commit_key(repo, repo_type, revision)
    if known.get(key) != commit:
        write_whole(memory(), json.dumps({**known, key: commit}, indent=1, sort_keys=True) + "\n")


def remembered_commit(repo: str, repo_type: str, revision: str) -> str | None:
    """What a revision was last seen to be, if ever."""
    return remembered().get(commit_key(repo, repo_type, revision))


def commit_key(repo: str, repo_type: str, revision: str) -> str:
    return f"{repo_type}:{repo}@{revision}"


def memory() -> Path:
    """The file in the user's cache that remembers commits."""
    return cache_folder() / "hub" / "commits.json"


def remembered() -> dict[str, str]:
    """Everything remembered; a damaged file is as good as none."""
    try:
        known = json.loads(memory().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in known.items()} if known else {}


def sha256_of(file: Path) -> str:
    """The file's digest."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while piece := stream.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def move_in(source: Path, destination: Path) -> None:
    """Give the file its place; across file systems it is copied first."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, destination)


def unpack(archive: Path, member: str) -> Path:
    """One member of a zip archive, beside it under its own base name.

    Raises:
        InputError: where it is no zip archive, or has no such member.

    """
    target = archive.parent / Path(member).name
    try:
        with (
            zipfile.ZipFile(archive) as opened,
            opened.open(member) as source,
            target.open("wb") as stream,
        ):
            shutil.copyfileobj(source, stream)
    except zipfile.BadZipFile as error:
        raise InputError(
            f"{archive.name} is not a zip archive, or is damaged",
            evidence=(str(error),),
            hint="leave `member` out where the file itself is meant",
        ) from error
    except KeyError as error:
        with zipfile.ZipFile(archive) as opened:
            names = opened.namelist()
        near = get_close_matches(member, names, n=3) or names[:5]
        raise InputError(
            f"{archive.name} has no member {member}",
            evidence=[f"it has: {name}" for name in near],
            hint="correct `member`",
        ) from error
    return target


def refuse_other_content(file: Path, found: str, wanted: str | None) -> None:
    """Refuse a file whose digest is not the one it must have.

    Raises:
        InputError: naming both digests.

    """
    if wanted is not None and found != wanted:
        raise InputError(
            f"{file.name} is not the file that was expected: its sha256 differs",
            evidence=(f"expected {wanted}", f"found    {found}"),
            hint="correct `sha256` if the new content is wanted; otherwise fetch it again",
        )
