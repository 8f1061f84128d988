"""The Hub, reached through its own client; what it refuses becomes a message with a remedy."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from huggingface_hub import (
    HfApi,
    constants,
    get_token,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import DatasetInfo, ModelInfo
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]
from huggingface_hub.utils.tqdm import disable_progress_bars

from llamacpp_pipeline.errors import InputError, PipelineError
from llamacpp_pipeline.stages.fetched_files import remember_commit, remembered_commit

COMMIT = re.compile(r"[0-9a-f]{40}")
SECONDS_TO_ANSWER = 30.0
LIBRARY = "llamacpp-pipeline"
# What the client raises for a request that never reached the Hub is below the base class of its
# own errors; that class is of one HTTP library or another, as the client's version has it.
NoAnswer: type[BaseException] = HfHubHTTPError.__bases__[0]

RepoType = Literal["model", "dataset"]


@dataclass(frozen=True, kw_only=True)
class Repo:
    """A repository at one commit."""

    name: str
    kind: RepoType
    commit: str

    @property
    def cache(self) -> Path:
        """Its folder in the cache of the Hub's own client."""
        return cached_repo(self.name, self.kind)


@dataclass(frozen=True, kw_only=True)
class ListedFile:
    """A file as the Hub lists it."""

    name: str
    size_bytes: int | None
    sha256: str | None  # known of large files only


def resolve_commit(repo: str, repo_type: RepoType, revision: str, offline: bool) -> str:  # noqa: FBT001
    """The full sha that a branch or tag names now; offline, what it named when last asked.

    Raises:
        InputError: where the repository or the revision is not to be had, or nobody can be asked.

    """
    if COMMIT.fullmatch(revision):
        return revision
    if offline:
        return remembered_or_cached(repo, repo_type, revision)
    info = ask(repo, repo_type, revision)
    if not info.sha:
        raise InputError(f"the Hub gave no commit for {repo} at {revision}")
    remember_commit(repo, repo_type, revision, info.sha)
    return info.sha


def remembered_or_cached(repo: str, repo_type: RepoType, revision: str) -> str:
    """The commit last seen, by this program or by the Hub's own client."""
    folder = cached_repo(repo, repo_type)
    reference = folder / "refs" / revision
    found = remembered_commit(repo, repo_type, revision)
    if found is None and reference.is_file():
        found = reference.read_text(encoding="utf-8").strip()
    if found is None:
        raise InputError(
            f"offline, and it is not known which commit {revision} of {repo} is",
            hint="run once with the network (without HF_HUB_OFFLINE), or set `revision` to a"
            " full commit sha",
        )
    return found


def cached_repo(repo: str, repo_type: RepoType) -> Path:
    """The folder of a repository in the cache of the Hub's own client."""
    return Path(constants.HF_HUB_CACHE) / f"{repo_type}s--{repo.replace('/', '--')}"


def hub() -> HfApi:
    """The Hub, or what HF_ENDPOINT names instead."""
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name=LIBRARY)


def ask(repo: str, repo_type: RepoType, revision: str) -> ModelInfo | DatasetInfo:
    """What the Hub says of a repository at a revision, its files included."""
    api, seconds = hub(), SECONDS_TO_ANSWER
    with hub_errors(repo, repo_type, revision):
        if repo_type == "dataset":
            return api.dataset_info(repo, revision=revision, timeout=seconds, files_metadata=True)
        return api.model_info(repo, revision=revision, timeout=seconds, files_metadata=True)


def listing(repo: Repo) -> tuple[ListedFile, ...]:
    """Every file of the commit; offline, those that the client's cache holds.

    Raises:
        InputError: where the Hub cannot be asked.

    """
    if constants.HF_HUB_OFFLINE:
        snapshot = repo.cache / "snapshots" / repo.commit
        files = sorted(path for path in snapshot.rglob("*") if path.is_file())
        if not files:
            raise InputError(
                f"offline, and nothing of {repo.name} is at hand",
                hint="run once with the network (without HF_HUB_OFFLINE)",
            )
        return tuple(
            ListedFile(
                name=path.relative_to(snapshot).as_posix(),
                size_bytes=path.stat().st_size,
                sha256=None,
            )
            for path in files
        )
    return tuple(
        ListedFile(
            name=sibling.rfilename,
            size_bytes=sibling.size,
            sha256=sibling.lfs.sha256 if sibling.lfs else None,
        )
        for sibling in ask(repo.name, repo.kind, repo.commit).siblings or ()
    )


def is_cached(repo: Repo, pattern: str) -> bool:
    """Whether the cache of the Hub's own client has files of that pattern at the commit."""
    snapshot = repo.cache / "snapshots" / repo.commit
    names = (path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*"))
    return any(fnmatchcase(name, pattern) for name in names)


def has_token() -> bool:
    """Whether there is a token, in the environment or where the Hub's own client keeps it."""
    return get_token() is not None


def bring(repo: Repo, file: ListedFile, folder: Path) -> Path:
    """One file into `folder`: from the client's cache, else downloaded, gone on with where begun.

    Raises:
        InputError: where it cannot be had.

    """
    target = folder / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    cached = try_to_load_from_cache(repo.name, file.name, revision=repo.commit, repo_type=repo.kind)
    if isinstance(cached, str):
        shutil.copyfile(cached, target)
    elif not target.is_file():
        disable_progress_bars()
        with hub_errors(repo.name, repo.kind, repo.commit):
            download(repo, file, target)
    return target


def download(repo: Repo, file: ListedFile, target: Path) -> None:
    """The file over HTTP. The client's own download begins anew after a kill: ours goes on."""
    endpoint = os.environ.get("HF_ENDPOINT")
    if (file.size_bytes or 0) > constants.MAX_HTTP_DOWNLOAD_SIZE:  # not to be had in this way
        folder = target.parents[file.name.count("/")]
        hf_hub_download(
            *(repo.name, file.name),
            repo_type=repo.kind,
            revision=repo.commit,
            local_dir=folder,
            endpoint=endpoint,
        )
        return
    url = hf_hub_url(
        *(repo.name, file.name), repo_type=repo.kind, revision=repo.commit, endpoint=endpoint
    )
    partial = target.with_name(f"{target.name}.partial")
    if file.size_bytes is None or (partial.exists() and partial.stat().st_size > file.size_bytes):
        partial.unlink(missing_ok=True)
    with partial.open("ab") as stream:
        http_get(
            url,
            stream,
            resume_size=stream.tell(),
            headers=build_hf_headers(library_name=LIBRARY),
            expected_size=file.size_bytes,
        )
    partial.replace(target)


@contextmanager
def hub_errors(repo: str, repo_type: RepoType, revision: str) -> Iterator[None]:
    """Turn what the Hub's client raises into messages with a remedy.

    Raises:
        InputError: instead of each of them.

    """
    try:
        yield
    except GatedRepoError as error:
        raise InputError(
            f"{repo} is gated: its publisher wants to be asked first",
            hint=f"accept the terms on the page of {repo}, then set HF_TOKEN to your token",
        ) from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"the Hub has no {repo_type} {repo}, or does not show it to you",
            hint="check the spelling; for a private repository set HF_TOKEN to your token",
        ) from error
    except RevisionNotFoundError as error:
        raise InputError(
            f"{repo} has no revision {revision}", hint="correct `revision` (a branch, tag or sha)"
        ) from error
    except (OfflineModeIsEnabled, LocalEntryNotFoundError) as error:
        raise InputError(
            f"offline, and not all files of {repo} are at hand",
            evidence=(first_line(error),),
            hint="run once with the network (without HF_HUB_OFFLINE)",
        ) from error
    except NoAnswer as error:
        raise no_use(repo, repo_type, revision, error) from error
    except OSError as error:
        if error.errno is not None:  # the disk's affair
            raise
        raise InputError(
            f"a file of {repo} did not come whole",
            evidence=(first_line(error),),
            hint="run the same command again: it goes on where it ended",
        ) from error


def no_use(repo: str, repo_type: RepoType, revision: str, error: BaseException) -> PipelineError:
    """The error for a Hub that answers badly, or not at all."""
    if isinstance(error, HfHubHTTPError):
        return InputError(
            f"the Hub refused a request for {repo}",
            evidence=(first_line(error),),
            hint="try again later; if it says 401 or 403, check HF_TOKEN",
        )
    seen = remembered_commit(repo, repo_type, revision)
    go_on = f"; HF_HUB_OFFLINE=1 goes on with commit {seen[:12]}, last seen" if seen else ""
    return InputError(
        f"the Hub cannot be reached for {repo}",
        evidence=(f"{type(error).__name__}: {first_line(error)}",),
        hint=f"check the network, the proxy variables and HF_ENDPOINT{go_on}",
    )


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
