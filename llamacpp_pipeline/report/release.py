"""What of a result folder is published, and the proof that it is whole and holds no secret."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from llamacpp_pipeline.errors import PublishError
from llamacpp_pipeline.results.document import RESULTS_NAME, read_results
from llamacpp_pipeline.results.manifest import MANIFEST_NAME, Manifest, read_manifest
from llamacpp_pipeline.results.redact import Redactor
from llamacpp_pipeline.results.write import CARD_NAME

Digest = Callable[[Path], str]
TEXTS = (".md", ".json", ".yaml", ".csv", ".svg")
PICTURES = (*TEXTS, ".png")
EVALUATIONS = ".eval_results"  # the one hidden folder that the Hub reads
OWN_NAMES = (CARD_NAME, RESULTS_NAME, MANIFEST_NAME)


@dataclass(frozen=True, kw_only=True)
class LocalFile:
    """One file to be published."""

    name: str  # in the repository
    path: Path
    size_bytes: int
    sha256: str

    @property
    def git_oid(self) -> str:
        """What git calls its content, where it is kept in git itself."""
        digest = hashlib.sha1(f"blob {self.size_bytes}\0".encode(), usedforsecurity=False)
        with self.path.open("rb") as stream:
            while piece := stream.read(2**20):
                digest.update(piece)
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Release:
    """A finished result folder, seen as a repository."""

    folder: Path
    manifest: Manifest
    files: tuple[LocalFile, ...]
    left_out: tuple[str, ...]  # what lies in the folder and is not published

    @property
    def build_id(self) -> str:
        """The BuildId of the binaries that made it."""
        return self.manifest.toolchain.build_id


def release(folder: Path, *, digest: Digest, redactor: Redactor) -> Release:
    """The files of a result folder that are to be published, each checked.

    Raises:
        InputError: where the folder holds no results.
        PublishError: where the run is not finished, a file is not what the manifest says, or
            a text holds a secret.

    """
    document, manifest = read_results(folder), read_manifest(folder)
    _refuse_unfinished((*document.incomplete, *manifest.incomplete))
    made = {file.name: file.sha256 for file in manifest.files}
    names = (*made, *_beside(folder, made))
    _refuse_absent(folder, names)
    files = tuple(_local(folder, name, digest=digest) for name in names)
    _refuse_changed(files, made)
    _refuse_secrets(files, redactor)
    return Release(
        folder=folder,
        manifest=manifest,
        files=files,
        left_out=tuple(sorted(_everything(folder) - set(names))),
    )


def _beside(folder: Path, made: Iterable[str]) -> tuple[str, ...]:
    """The card, the documents, pictures and their data."""
    found = _everything(folder).difference(made, OWN_NAMES)
    extra = sorted(name for name in found if name.endswith(PICTURES) and _visible(name))
    return (*OWN_NAMES, *extra)


def _visible(name: str) -> bool:
    parts = name.split("/")
    return not any(part.startswith(".") for part in parts if part != EVALUATIONS)


def _everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _local(folder: Path, name: str, *, digest: Digest) -> LocalFile:
    path = folder / name
    return LocalFile(name=name, path=path, size_bytes=path.stat().st_size, sha256=digest(path))


def _refuse_unfinished(steps: tuple[str, ...]) -> None:
    if steps:
        raise PublishError(
            f"the run is not finished: {len(set(steps))} steps are missing",
            evidence=tuple(dict.fromkeys(steps)),
            hint="run it again: finished steps are kept; or leave those variants out of the config",
        )


def _refuse_absent(folder: Path, names: Iterable[str]) -> None:
    absent = tuple(name for name in names if not (folder / name).is_file())
    if absent:
        raise PublishError(
            f"{folder.name}/ is not whole: {len(absent)} files are absent",
            evidence=absent,
            hint="run the pipeline again: it puts them back from its store",
        )


def _refuse_changed(files: tuple[LocalFile, ...], made: dict[str, str]) -> None:
    changed = [file for file in files if file.sha256 != made.get(file.name, file.sha256)]
    if changed:
        raise PublishError(
            f"{changed[0].name} is not the file that the run made",
            evidence=[f"{f.name}: {f.sha256}, made was {made[f.name]}" for f in changed],
            hint="run the pipeline again: it puts the file back from its store",
        )


def _refuse_secrets(files: tuple[LocalFile, ...], redactor: Redactor) -> None:
    for file in files:
        if not file.name.endswith(TEXTS):
            continue
        text = file.path.read_text(encoding="utf-8", errors="replace")
        if redactor.secretless(text) != text:
            raise PublishError(
                f"{file.name} holds a token or the path of your home folder",
                hint="take it out of the config (card.notes?) and run the pipeline again",
            )
