from __future__ import annotations

from pathlib import Path

import pytest

from llamacpp_pipeline.toolchain.places import Places


@pytest.fixture
def places(tmp_path: Path) -> Places:
    cache = tmp_path / "cache"
    return Places(
        sources=cache / "sources",
        builds=cache / "builds",
        memos=cache / "memos",
        submodule=tmp_path / "vendor" / "llama.cpp",
        patches=tmp_path / "patches",
    )
