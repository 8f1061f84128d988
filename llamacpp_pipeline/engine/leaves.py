"""Leaves: given files and folders, known by their content from here on."""

from __future__ import annotations

from pathlib import Path

from llamacpp_pipeline.engine.digests import Digests, sha256_of_text
from llamacpp_pipeline.errors import InputError
from llamacpp_pipeline.plan.step import Leaf
from llamacpp_pipeline.stages.fetch import MODEL_FILES


def leaf_from_file(path: Path, label: str, *, digests: Digests) -> Leaf:
    """A given file.

    Raises:
        InputError: where there is no such file, or it is empty.

    """
    if not path.is_file():
        raise InputError(
            f"{label}: there is no file {path}", hint="check the path in the configuration"
        )
    size = path.stat().st_size
    if size == 0:
        raise InputError(f"{label}: {path} is empty")
    return Leaf(digest=_digest(path, digests), path=path.absolute(), label=label, size_bytes=size)


def leaf_from_folder(path: Path, label: str, *, digests: Digests) -> Leaf:
    """A given model folder: the files in it that a model needs, and no others.

    Raises:
        InputError: where there is no such folder, or none of those files in it.

    """
    files = model_files(path)
    if not files:
        what = "holds no model files" if path.is_dir() else "is not a folder"
        raise InputError(
            f"{label}: {path} {what}",
            hint="give the folder of a Hugging Face checkpoint: config.json, *.safetensors, ...",
        )
    lines = [f"{file.name}\0{_digest(file, digests)}\n" for file in files]
    return Leaf(
        digest=sha256_of_text("".join(lines)),
        path=path.absolute(),
        label=label,
        size_bytes=sum(file.stat().st_size for file in files),
    )


def model_files(folder: Path) -> tuple[Path, ...]:
    """The files of a model folder that a model needs, by name."""
    found = {file for pattern in MODEL_FILES for file in folder.glob(pattern) if file.is_file()}
    return tuple(sorted(found, key=lambda file: file.name))


def refuse_changed(leaf: Leaf, *, digests: Digests) -> None:
    """Look again at what is given, right before it is used.

    Raises:
        InputError: where it is no longer what the plan was made for.

    """
    make = leaf_from_folder if leaf.path.is_dir() else leaf_from_file
    if make(leaf.path, leaf.label, digests=digests).digest != leaf.digest:
        raise InputError(
            f"{leaf.label}: it changed since the plan was made",
            evidence=(str(leaf.path),),
            hint="run the pipeline again: what depends on it is made anew",
        )


def _digest(path: Path, digests: Digests) -> str:
    try:
        return digests.of(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read", evidence=(str(error),)) from error
