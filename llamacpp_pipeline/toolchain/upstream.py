"""The one llama.cpp this pipeline is made for, and where it is to be had."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from llamacpp_pipeline.toolchain.tree import Manifest

URL = "https://github.com/ggml-org/llama.cpp"
HOST = "github.com"
COMMIT = "4df29be4f4c3673f428170fda944a5b19f743bb8"
SHORT_COMMIT = COMMIT[:9]
BUILD_NUMBER = 10454  # upstream tag b10451 and three commits
TREE_SHA256 = "34bf2aa20331cd38f4349548583f587db3b5f5046e71cdaed021f26f7c5ac34f"

SDIST_PROJECT = "llama-cpp-python"
SDIST_VERSION = "0.3.35"
SDIST_SHA256 = "1139dbb54509074b70893fab8554e3b079aa9f4d312058ce4018ef0019e3de12"
SDIST_TREE = f"llama_cpp_python-{SDIST_VERSION}/vendor/llama.cpp/"  # inside the archive

MANIFEST = Path(__file__).with_name("tree.sha256")  # its own sha256 is TREE_SHA256


@cache
def pinned() -> Manifest:
    """What every file of that commit must be."""
    return Manifest.parse(MANIFEST.read_text(encoding="utf-8"))
