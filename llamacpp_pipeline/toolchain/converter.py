"""convert_hf_to_gguf.py: what it is known by, and what it needs to run."""

from __future__ import annotations

import json
from importlib import metadata

from llamacpp_pipeline.errors import ToolchainError
from llamacpp_pipeline.toolchain.tree import Manifest, sha256_of

SCRIPT = "convert_hf_to_gguf.py"
FOLDERS = ("conversion/", "gguf-py/gguf/")
NEEDED = ("torch", "transformers", "numpy")
ALSO_HEARD = ("tokenizers", "sentencepiece", "safetensors")  # used for some vocabularies
WRAPPER_VERSION = 1  # bump when convert_entry.py changes what is written
HINT = "make venv (it installs torch's CPU build and transformers into the environment)"


def sources_digest(tree: Manifest) -> str:
    """Digest of the converter's own files in a patched tree.

    Raises:
        ToolchainError: they are not there.

    """
    if SCRIPT not in tree.files:
        raise ToolchainError(
            f"this llama.cpp has no {SCRIPT}",
            hint="use the pinned source: `toolchain.source: auto`",
        )
    own = {
        name: digest
        for name, digest in tree.files.items()
        if name == SCRIPT or (name.startswith(FOLDERS) and name.endswith(".py"))
    }
    return Manifest(own).digest


def versions() -> dict[str, str | None]:
    """Versions of the packages it uses, without importing them (torch takes seconds)."""
    return {name: _version(name) for name in (*NEEDED, *ALSO_HEARD)}


def converter_id(sources: str) -> str:
    """What a converted file is made by.

    Raises:
        ToolchainError: a package it needs is missing.

    """
    found = versions()
    missing = [name for name in NEEDED if found[name] is None]
    if missing:
        raise ToolchainError(
            f"the converter needs {' and '.join(missing)}, not installed here", hint=HINT
        )
    document = ["converter", WRAPPER_VERSION, sources, found]
    return sha256_of(json.dumps(document, sort_keys=True).encode())


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
