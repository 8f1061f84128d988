"""Another publisher's file against our reference: the same model, or refused."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from click.testing import CliRunner

from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages.gguf_vocabulary import read_vocabulary
from llamacpp_pipeline.stages.reference_file import (
    STAGE,
    ReferenceParams,
    ReferenceResult,
    argv,
    main,
)
from tests.unit.stages.makers import TENSORS, write_gguf

ROW = np.zeros((4, 256), dtype=np.float32)
DRAFT = ("blk.2.nextn.eh_proj.weight", "blk.2.attn_qkv.weight")


def tensors(*names: str) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    return {name: ROW[0] if "norm" in name else ROW for name in names}


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    return {
        "model": write_gguf(tmp_path / "model.gguf", numbers={"qwen35.context_length": 512}),
        "file": tmp_path / "theirs.gguf",
        "report": tmp_path / "reference.json",
    }


def ran(paths: dict[str, Path]) -> str:
    return CliRunner().invoke(main, argv(ReferenceParams(), paths)[1:]).output


def checked(paths: dict[str, Path]) -> ReferenceResult:
    return STAGE.read(ReferenceParams(), ran(paths), paths)


def refused(paths: dict[str, Path]) -> InputError:
    failed = STAGE.explain(ran(paths))
    assert isinstance(failed, InputError)
    assert not paths["report"].exists()
    return failed


def test_a_file_of_this_model_is_described(paths: dict[str, Path]) -> None:
    write_gguf(
        paths["file"],
        texts={"general.quantized_by": "Them", "quantize.imatrix.dataset": "their.txt"},
        numbers={"qwen35.context_length": 512},
    )

    result = checked(paths)

    assert (result.architecture, result.n_tensors) == ("qwen35", len(TENSORS))
    assert result.types == {"f32": len(TENSORS)}
    assert result.bpw == 32.0
    assert result.type_of["output.weight"] == "f32"
    assert set(result.type_of) < set(TENSORS)
    assert result.file_bytes == paths["file"].stat().st_size
    assert (result.quantized_by, result.imatrix_dataset) == ("Them", "their.txt")
    assert result.repo_url is None
    assert result.notes == ()


def test_what_does_not_make_another_model_is_noted(paths: dict[str, Path]) -> None:
    untied = [name for name in TENSORS if name != "output.weight"]
    write_gguf(
        paths["file"],
        tensors=tensors(*untied, *DRAFT),
        numbers={"qwen35.context_length": 256},
    )

    assert checked(paths).notes == (
        "lacks 1 tensors that our reference has: output.weight",
        f"has 2 tensors that our reference has not: {', '.join(sorted(DRAFT))}",
        "qwen35.context_length: 256 (ours: 512)",
    )


def test_a_missing_layer_is_another_model(paths: dict[str, Path]) -> None:
    write_gguf(paths["file"], tensors=tensors(*TENSORS[:-2]))

    failed = refused(paths)

    assert failed.message == "theirs.gguf is of another model: 2 tensors differ"
    assert failed.evidence == (
        "blk.1.attn_qkv.weight: not in theirs.gguf",
        "blk.1.ssm_out.weight: not in theirs.gguf",
    )
    assert failed.hint is not None
    assert "name a GGUF of the very model" in failed.hint


def test_an_added_layer_is_another_model(paths: dict[str, Path]) -> None:
    write_gguf(paths["file"], tensors=tensors(*TENSORS, "blk.2.attn_qkv.weight"))

    assert refused(paths).evidence == ("blk.2.attn_qkv.weight: not in our reference",)


def test_other_shapes_are_another_model(paths: dict[str, Path]) -> None:
    wider = {**tensors(*TENSORS), "blk.0.ssm_out.weight": np.zeros((4, 512), dtype=np.float32)}
    write_gguf(paths["file"], tensors=wider)

    assert refused(paths).evidence == ("blk.0.ssm_out.weight: [512, 4] against [256, 4]",)


def test_another_architecture_is_refused_by_name(paths: dict[str, Path]) -> None:
    writer = gguf.GGUFWriter(paths["file"], "llama")
    writer.add_tensor("token_embd.weight", ROW)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    failed = refused(paths)

    assert failed.message == "theirs.gguf is of another architecture than the model"
    assert failed.evidence == ("llama against qwen35",)


def test_another_vocabulary_is_refused_with_the_tokens_that_differ(
    paths: dict[str, Path],
) -> None:
    write_gguf(paths["file"], n_vocab=9)

    failed = refused(paths)

    assert failed.message == "theirs.gguf has another vocabulary than the model: 1 tokens differ"
    assert failed.evidence == ("9 tokens against 8", "8: 'token8' against nothing")


def test_a_part_of_a_split_file_is_refused_with_the_cure(paths: dict[str, Path]) -> None:
    paths["file"] = paths["file"].with_name("theirs-00001-of-00003.gguf")
    write_gguf(paths["file"])

    failed = refused(paths)

    assert failed.message == "theirs-00001-of-00003.gguf is one part of a GGUF that was split"
    assert failed.hint is not None
    assert "llama-gguf-split --merge" in failed.hint


def test_what_is_no_gguf_is_refused(paths: dict[str, Path]) -> None:
    paths["file"].write_bytes(b"<html>not found</html>")

    assert refused(paths).message == "theirs.gguf is not a GGUF file"


def test_a_lost_report_is_no_result(paths: dict[str, Path]) -> None:
    with pytest.raises(UnreadableOutputError, match="a readable reference"):
        STAGE.read(ReferenceParams(), "", paths)


def test_tokens_and_merges_are_read_as_bytes(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "v.gguf", "qwen35")
    writer.add_token_list([b"a", b"\xff\xfe", "é".encode()])
    writer.add_token_types([1, 6, 1])
    writer.add_token_merges(["a b"])
    writer.add_tensor("token_embd.weight", ROW)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    found = read_vocabulary(tmp_path / "v.gguf")

    assert found.tokens == (b"a", b"\xff\xfe", "é".encode())
    assert found.merges == (b"a b",)
