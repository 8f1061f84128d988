from __future__ import annotations

import json
from pathlib import Path

import pytest

from llamacpp_pipeline.errors import InputError
from llamacpp_pipeline.stages.safetensors_files import INDEX, checkpoint_tensors
from tests.unit.stages.makers import Raw, bf16, f32, write_safetensors


def test_tensors_are_found_where_they_lie(tmp_path: Path) -> None:
    file = write_safetensors(tmp_path / "model.safetensors", {"a": f32(1, 2), "b": bf16(3)})

    first, second = checkpoint_tensors(tmp_path)

    assert (first.name, first.dtype, first.n_values, first.n_bytes) == ("a", "F32", 2, 8)
    assert (second.name, second.dtype, second.n_values) == ("b", "BF16", 1)
    assert second.start == first.start + 8
    assert file.stat().st_size == second.start + 2


def test_shards_are_those_the_index_names(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model-00001-of-00002.safetensors", {"a": f32(1)})
    write_safetensors(tmp_path / "model-00002-of-00002.safetensors", {"b": f32(1)})
    write_safetensors(tmp_path / "stray.safetensors", {"c": f32(1)})
    weight_map = {n: f"model-0000{at}-of-00002.safetensors" for at, n in ((1, "a"), (2, "b"))}
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": weight_map}))

    assert [tensor.name for tensor in checkpoint_tensors(tmp_path)] == ["a", "b"]


def test_a_second_copy_in_another_layout_is_not_counted(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model.safetensors", {"a": f32(1)})
    write_safetensors(tmp_path / "consolidated.safetensors", {"x": f32(1)})

    assert [tensor.name for tensor in checkpoint_tensors(tmp_path)] == ["a"]


def test_an_index_that_names_an_absent_shard_is_refused(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "one.safetensors", {"a": f32(1)})
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (tmp_path / INDEX).write_text(json.dumps(index))

    with pytest.raises(InputError, match="1 of 2 files named in") as caught:
        checkpoint_tensors(tmp_path)
    assert caught.value.evidence == ("two.safetensors",)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": 3}'])
def test_an_index_that_cannot_be_read_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / INDEX).write_text(content)

    with pytest.raises(InputError, match="cannot be read"):
        checkpoint_tensors(tmp_path)


def test_a_folder_without_safetensors_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")

    with pytest.raises(InputError, match="has no safetensors file") as caught:
        checkpoint_tensors(tmp_path)
    assert caught.value.evidence == ("found: pytorch_model.bin",)


@pytest.mark.parametrize("kept", [0, 4, 8, 30, -1])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, kept: int) -> None:
    file = write_safetensors(tmp_path / "model.safetensors", {"a": f32(*range(100))})
    file.write_bytes(file.read_bytes()[:kept])

    with pytest.raises(InputError, match=r"model\.safetensors is cut short or damaged"):
        checkpoint_tensors(tmp_path)


def test_an_unknown_type_is_refused_by_name(tmp_path: Path) -> None:
    raw = Raw(dtype="Q9", shape=(1,), data=b"x")
    write_safetensors(tmp_path / "model.safetensors", {"a": raw})

    with pytest.raises(InputError, match="tensor a has the unknown type Q9"):
        checkpoint_tensors(tmp_path)


@pytest.mark.parametrize(
    "raw",
    [
        Raw(dtype="F32", shape=(3,), data=bytes(8)),
        Raw(dtype="BF16", shape=(-4,), data=bytes(8)),
    ],
)
def test_a_shape_that_is_not_its_bytes_is_refused(tmp_path: Path, raw: Raw) -> None:
    write_safetensors(tmp_path / "model.safetensors", {"a": raw})

    with pytest.raises(InputError, match="cut short or damaged"):
        checkpoint_tensors(tmp_path)


@pytest.mark.parametrize("header", [b"[]", b"{]", b'{"a": 1}', b'{"a": {"dtype": "F32"}}'])
def test_a_malformed_header_is_refused(tmp_path: Path, header: bytes) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header)

    with pytest.raises(InputError, match="cut short or damaged"):
        checkpoint_tensors(tmp_path)
