"""What the Hub tells of a model before anything large is fetched: enough to predict sizes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from llamacpp_pipeline.errors import InputError
from llamacpp_pipeline.stages.hub import Repo, bring, listing
from llamacpp_pipeline.stages.model_folder import whole_number

BYTES_PER_VALUE = 2  # most checkpoints are BF16 or F16; the size is an estimate anyway


@dataclass(frozen=True, kw_only=True)
class HubHints:
    """None is unknown."""

    vocab_size: int | None
    n_parameters: int | None  # from the size of the files
    tensor_bytes: int | None


def hub_hints(repo: Repo, folder: Path) -> HubHints:
    """Read the listing, and config.json into `folder`; a Hub that is silent tells nothing."""
    try:
        files = {file.name: file for file in listing(repo)}
        size = sum(f.size_bytes or 0 for f in files.values() if f.name.endswith(".safetensors"))
        config = json.loads(bring(repo, files["config.json"], folder).read_text(encoding="utf-8"))
    except (InputError, KeyError, OSError, ValueError):
        return HubHints(vocab_size=None, n_parameters=None, tensor_bytes=None)
    return HubHints(
        vocab_size=whole_number(config, "vocab_size") if isinstance(config, dict) else None,
        n_parameters=size // BYTES_PER_VALUE or None,
        tensor_bytes=size or None,
    )
