"""Keys of ours in a GGUF: asked for, and found there."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamacpp_pipeline.errors import UnreadableOutputError
from llamacpp_pipeline.stages.gguf_labels import flags, refuse_other
from tests.unit.stages.makers import write_gguf

LABELS: dict[str, str | int] = {"general.quantized_by": "Me & Co", "general.base_model.count": 1}


def test_each_is_an_override() -> None:
    assert flags(LABELS) == (
        *("--override-kv", "general.quantized_by=str:Me & Co"),
        *("--override-kv", "general.base_model.count=int:1"),
    )
    assert flags({}) == ()


def test_a_file_that_says_so_is_right(tmp_path: Path) -> None:
    file = write_gguf(
        tmp_path / "m.gguf",
        texts={"general.quantized_by": "Me & Co"},
        numbers={"general.base_model.count": 1},
    )

    refuse_other(LABELS, {"gguf": file})


def test_a_file_that_says_something_else_is_refused(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "m.gguf", texts={"general.quantized_by": "Them"})

    with pytest.raises(UnreadableOutputError) as caught:
        refuse_other(LABELS, {"gguf": file})

    assert caught.value.evidence == (
        "general.quantized_by: 'Them' instead of 'Me & Co'",
        "general.base_model.count: None instead of 1",
    )
