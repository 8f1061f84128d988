"""What a file says of its own making: keys that llama-quantize writes into the GGUF's metadata."""

from __future__ import annotations

from collections.abc import Mapping

from llamacpp_pipeline.errors import UnreadableOutputError
from llamacpp_pipeline.stages.base import Argv, Labels, Paths
from llamacpp_pipeline.stages.gguf_facts import read_gguf

TOOL = "llama-quantize"
MOST_BYTES = 127  # of a text: llama.cpp's llama_model_kv_override has 128, the last one zero


def flags(labels: Mapping[str, str | int]) -> Argv:
    """One `--override-kv` for each."""
    words: list[str] = []
    for key, value in labels.items():
        kind = "str" if isinstance(value, str) else "int"
        words += ["--override-kv", f"{key}={kind}:{value}"]
    return tuple(words)


def refuse_other(labels: Mapping[str, str | int], paths: Paths) -> None:
    """The file made must say so.

    Raises:
        UnreadableOutputError: where it does not, with what it says.

    """
    found = read_gguf(paths["gguf"]).metadata
    wrong = [
        f"{key}: {found.get(key)!r} instead of {value!r}"
        for key, value in labels.items()
        if found.get(key) != value
    ]
    if wrong:
        raise UnreadableOutputError(TOOL, "the metadata asked for", wrong[:6])


GGUF_LABELS = Labels(flags=flags, refuse_other=refuse_other)
