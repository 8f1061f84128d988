from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llamacpp_pipeline.errors import InputError
from llamacpp_pipeline.stages.gguf_facts import bytes_at, read_gguf, type_layout
from tests.unit.stages.makers import write_gguf


def test_sizes_and_types_are_those_of_the_tensors(tmp_path: Path) -> None:
    values = {
        "a.weight": np.zeros((4, 256), np.float32),
        "b.bias": np.ones(3, np.float32),
    }
    path = write_gguf(tmp_path / "m.gguf", tensors=values, texts={"general.name": "demo"})

    facts = read_gguf(path)

    assert facts.architecture == "qwen35"
    assert facts.text("general.name") == "demo"
    assert facts.vocab_size == 8
    assert facts.n_elements == 1027
    assert facts.tensor_bytes == 4108
    assert facts.bpw == 32
    assert facts.file_bytes == path.stat().st_size
    assert facts.file_bpw > facts.bpw
    assert facts.types == {"f32": 2}
    assert facts.tensors[0].shape == (256, 4)
    assert facts.values(facts.tensors[1]).tolist() == [1, 1, 1]


def test_a_file_without_a_vocabulary_has_none(tmp_path: Path) -> None:
    assert read_gguf(write_gguf(tmp_path / "m.gguf", n_vocab=0)).vocab_size is None


@pytest.mark.parametrize("kept", [8, 20, 100, 400, -1])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, kept: int) -> None:
    path = write_gguf(tmp_path / "m.gguf")
    path.write_bytes(path.read_bytes()[:kept])

    with pytest.raises(InputError, match=r"m\.gguf is cut short or damaged") as caught:
        read_gguf(path)
    assert caught.value.evidence
    assert caught.value.hint


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_text("Base text")

    with pytest.raises(InputError, match="is not a GGUF file") as caught:
        read_gguf(path)
    assert "b'Base'" in caught.value.evidence[0]


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.gguf cannot be read: No such file"):
        read_gguf(tmp_path / "nothing.gguf")


def test_an_absent_key_is_named(tmp_path: Path) -> None:
    facts = read_gguf(write_gguf(tmp_path / "m.gguf"))

    with pytest.raises(InputError, match=r"no number general\.file_type"):
        facts.number("general.file_type")
    with pytest.raises(InputError, match=r"no text general\.type"):
        facts.text("general.type")


@pytest.mark.parametrize(
    ("type_id", "layout"),
    [
        (0, ("f32", 1, 4)),
        (12, ("q4_K", 256, 144)),
        (30, ("bf16", 1, 2)),
        (16, ("iq2_xxs", 256, 66)),
        (42, ("q2_0", 64, 18)),
    ],
)
def test_types_are_spelled_as_llama_cpp_prints_them(
    type_id: int, layout: tuple[str, int, int]
) -> None:
    assert type_layout(type_id) == layout


@pytest.mark.parametrize(
    ("kind", "n_bytes"),
    [("q4_K", 144), ("iq4_xs", 136), ("q8_0", 272), ("bf16", 512), ("q2_0", 72)],
)
def test_what_a_tensor_takes_at_a_type(kind: str, n_bytes: int) -> None:
    assert bytes_at(kind, 256) == n_bytes


def test_a_type_that_no_tensor_has_takes_nothing() -> None:
    with pytest.raises(ValueError, match="'q9_K' is no ggml type"):
        bytes_at("q9_K", 256)
