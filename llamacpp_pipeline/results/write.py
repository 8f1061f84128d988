"""The result folder's own files: written whole or not at all, and nothing private in them."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from llamacpp_pipeline.errors import InputError
from llamacpp_pipeline.results.document import RESULTS_NAME, ResultsDocument, document_json
from llamacpp_pipeline.results.manifest import MANIFEST_NAME, Manifest
from llamacpp_pipeline.results.redact import Redactor, redactor_of_this_machine

CARD_NAME = "README.md"
READABLE = 0o644


@dataclass(frozen=True, kw_only=True)
class WrittenResults:
    """Where the three files are."""

    results: Path
    manifest: Path
    card: Path


def write_results(
    folder: Path,
    *,
    document: ResultsDocument,
    manifest: Manifest,
    card: str,
    redactor: Redactor | None = None,
) -> WrittenResults:
    """Write results.json, manifest.json and README.md; each replaces its predecessor at once.

    Raises:
        InputError: where the folder cannot be written to.

    """
    redactor = redactor or redactor_of_this_machine()
    return WrittenResults(
        manifest=write_text(folder / MANIFEST_NAME, redactor.secretless(document_json(manifest))),
        card=write_card(folder, card, redactor=redactor),
        results=write_text(folder / RESULTS_NAME, redactor.secretless(document_json(document))),
    )


def write_card(folder: Path, card: str, *, redactor: Redactor | None = None) -> Path:
    """Write README.md.

    Raises:
        InputError: where the folder cannot be written to.

    """
    redactor = redactor or redactor_of_this_machine()
    return write_text(folder / CARD_NAME, redactor.secretless(card))


def write_text(path: Path, text: str) -> Path:
    """Write a text under a temporary name beside `path`, then put it in its place.

    Raises:
        InputError: where that cannot be done; nothing half-written is left.

    """
    return write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> Path:
    """Write bytes under a temporary name beside `path`, then put them in its place.

    Raises:
        InputError: where that cannot be done; nothing half-written is left.

    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, content)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror})",
            hint="make room, or name another folder with `--out`",
        ) from error
    return path


def _replace(path: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        temporary.chmod(READABLE)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
