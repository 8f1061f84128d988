"""Files of a model repository on the Hub, at one commit, into the store."""

from __future__ import annotations

import os
import re
import shutil
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path

import click
from pydantic import ValidationError

from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages import own_tool
from llamacpp_pipeline.stages.base import Argv, Frozen, Paths, ProgressPattern, ToolStage
from llamacpp_pipeline.stages.fetched_files import (
    DOWNLOADS_VARIABLE,
    STORE_VARIABLE,
    downloads_folder,
    move_in,
    one_at_a_time,
    refuse_other_content,
    sha256_of,
    unpack,
)
from llamacpp_pipeline.stages.hub import ListedFile, Repo, RepoType, bring, listing, resolve_commit
from llamacpp_pipeline.stages.llama_log import complaints

__all__ = [
    "MODEL_FILES",
    "STAGE",
    "FetchParams",
    "FetchResult",
    "FetchedFile",
    "resolve_commit",
    "wanted_model_files",
]

TOOL = "llamacpp_pipeline.stages.fetch"
MIB = 2**20
SECONDS_BETWEEN_NOTES = 2.0
MODEL_FILES = (
    *("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"),
    *("README.md", "LICENSE*", "*.tiktoken"),
)
ENVIRONMENT = frozenset(
    {
        *("HF_TOKEN", "HF_TOKEN_PATH", "HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE"),
        *("HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_XET", "HF_XET_CACHE"),
        *("HF_XET_HIGH_PERFORMANCE", "HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        *("XDG_CACHE_HOME", STORE_VARIABLE, DOWNLOADS_VARIABLE),
    }
)


class FetchParams(Frozen):
    """Which files of which commit: all of it is hashed."""

    repo: str  # "Qwen/Qwen3.5-9B"
    repo_type: RepoType = "model"
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


def wanted_model_files(
    names: Iterable[str], patterns: tuple[str, ...] = MODEL_FILES
) -> tuple[str, ...]:
    """The files that match; a pattern without `/` means the top folder only.

    A second copy of the weights in another layout (consolidated*.safetensors) is left out, but
    not where it is asked for by name.
    """
    listed = tuple(names)
    found = [name for name in listed if any(matches(name, pattern) for pattern in patterns)]
    if any(matches(name, "model*.safetensors") for name in found):
        found = [name for name in found if name in patterns or not name.startswith("consolidated")]
    return tuple(sorted(found))


def matches(name: str, pattern: str) -> bool:
    return ("/" in pattern or "/" not in name) and fnmatchcase(name, pattern)


def fetch(params: FetchParams, folder: Path) -> FetchResult:
    """Bring the files wanted into `folder`, each checked.

    Raises:
        InputError: where one is not to be had or is not what it must be.

    """
    downloads = downloads_folder(params.repo, params.repo_type, params.commit)
    downloads.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(downloads.with_suffix(".lock")):
        listed = wanted(params)
        with notes(downloads, folder, sum(file.size_bytes or 0 for file in listed)):
            fetched = [placed(params, file, downloads, folder) for file in listed]
        shutil.rmtree(downloads, ignore_errors=True)
    return FetchResult(
        repo=params.repo, commit=params.commit, files=(*fetched, *unpacked(params, fetched, folder))
    )


def wanted(params: FetchParams) -> tuple[ListedFile, ...]:
    """The files to fetch, as the Hub lists them, or offline as its client's cache holds them.

    Raises:
        InputError: where none matches, or one digest is given for several files.

    """
    listed = {file.name: file for file in listing(repo_of(params))}
    names = wanted_model_files(listed, params.files)
    if not names:
        close = [n for p in params.files for n in get_close_matches(p, listed, n=3)]
        raise InputError(
            f"{params.repo} has no file {' or '.join(params.files)}",
            evidence=[f"it has: {name}" for name in close or sorted(listed)[:6]],
            hint="correct the file's name",
        )
    if len(names) > 1 and (params.sha256 or params.member):
        raise InputError(
            f"{len(names)} files match, where one is meant", evidence=names, hint="name one file"
        )
    return tuple(listed[name] for name in names)


def placed(params: FetchParams, file: ListedFile, downloads: Path, folder: Path) -> FetchedFile:
    """One file in its place, checked."""
    own_tool.note(f"file {file.name}")
    source = bring(repo_of(params), file, downloads)
    digest = sha256_of(source)
    try:
        refuse_other_content(source, digest, file.sha256)
        if params.member is None:
            refuse_other_content(source, digest, params.sha256)
    except InputError:
        source.unlink()  # so that the next run does not go on with it
        raise
    target = folder / file.name
    move_in(source, target)
    return FetchedFile(name=file.name, size_bytes=target.stat().st_size, sha256=digest)


def repo_of(params: FetchParams) -> Repo:
    return Repo(name=params.repo, kind=params.repo_type, commit=params.commit)


def unpacked(
    params: FetchParams, fetched: list[FetchedFile], folder: Path
) -> tuple[FetchedFile, ...]:
    """The member asked for, beside its archive."""
    if params.member is None:
        return ()
    target = unpack(folder / fetched[0].name, params.member)
    digest = sha256_of(target)
    refuse_other_content(target, digest, params.sha256)
    name = target.relative_to(folder).as_posix()
    return (FetchedFile(name=name, size_bytes=target.stat().st_size, sha256=digest),)


@contextmanager
def notes(downloads: Path, folder: Path, total_bytes: int) -> Iterator[None]:
    """While files come in, say every now and then how much is there."""
    over = threading.Event()

    def tell() -> None:
        while not over.wait(SECONDS_BETWEEN_NOTES):
            here = occupied(downloads) + occupied(folder)
            own_tool.note(f"fetched {here // MIB}/{total_bytes // MIB} MiB")

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def occupied(folder: Path) -> int:
    """Bytes on disk below a folder; files may vanish while it is walked."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(Path(parent) / name).st_blocks * 512
    return total


def argv(params: FetchParams, paths: Paths) -> Argv:
    return (
        TOOL,
        *("--output", str(paths["files"])),
        *("--params", params.model_dump_json(exclude_none=True)),
    )


def parse(log: str, paths: Paths) -> FetchResult:
    line = own_tool.last_object(log)
    try:
        result = FetchResult.model_validate_json(line or "")
    except ValidationError as error:
        raise UnreadableOutputError(TOOL, "its list of files", complaints(log)) from error
    absent = [
        file.name
        for file in result.files
        if not (paths["files"] / file.name).is_file()
        or (paths["files"] / file.name).stat().st_size != file.size_bytes
    ]
    if absent or not result.files:
        raise UnreadableOutputError(TOOL, "the files it lists", absent)
    return result


@click.command()
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--params", required=True)
def main(output: Path, params: str) -> None:
    """Fetch files of one commit of a Hub repository into a folder."""
    asked = FetchParams.model_validate_json(params)
    sys.exit(own_tool.run(lambda: fetch(asked, output).model_dump_json()))


STAGE = ToolStage(
    name="fetch",
    version=1,  # bump when argv or parse changes meaning
    tool=TOOL,
    made_by="pipeline",
    inputs=frozenset(),
    outputs={"files": "files"},
    params=FetchParams,
    result=FetchResult,
    lane="host",
    argv=argv,
    parse=parse,
    explain=own_tool.explain,
    progress=ProgressPattern(
        done=re.compile(r"fetched (?P<n>\d+)/\d+ MiB"),
        total=re.compile(r"fetched \d+/(?P<n>\d+) MiB"),
        unit="MiB",
    ),
    environment=ENVIRONMENT,
)

if __name__ == "__main__":
    main()
