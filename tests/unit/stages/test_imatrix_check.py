"""A given imatrix against the model it is to be used for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from llamacpp_pipeline.datasets import imatrix_file
from llamacpp_pipeline.datasets.imatrix_file import Entry, Imatrix
from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages.imatrix_check import STAGE, CheckParams, CheckResult, argv, main
from tests.unit.stages.makers import write_gguf

N_CHANNELS = 256
WEIGHTS = ("blk.0.attn_qkv.weight", "blk.0.ssm_out.weight", "blk.1.attn_qkv.weight")


def imatrix(*names: str, n_channels: int = N_CHANNELS, n_experts: int = 1) -> Imatrix:
    entries = {
        name: Entry(
            name=name,
            squares=np.ones((n_experts, n_channels)),
            counts=np.full(n_experts, 500, dtype=np.int64),
        )
        for name in names
    }
    return Imatrix(entries=entries, datasets=("t",), chunk_count=2, chunk_size=512)


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    names = {"imatrix": "i.gguf", "statistics": "s.json", "report": "check.json"}
    return {
        "model": write_gguf(tmp_path / "m.gguf"),
        **{key: tmp_path / name for key, name in names.items()},
    }


def ran(paths: dict[str, Path], given: Imatrix) -> str:
    imatrix_file.write(given, paths["imatrix"])
    return CliRunner().invoke(main, argv(CheckParams(), paths)[1:]).output


def checked(paths: dict[str, Path], given: Imatrix) -> CheckResult:
    return STAGE.read(CheckParams(), ran(paths, given), paths)


def refused(paths: dict[str, Path], given: Imatrix) -> InputError:
    failed = STAGE.explain(ran(paths, given))
    assert isinstance(failed, InputError)
    assert not paths["report"].exists()
    return failed


def test_a_file_that_fits_is_described(paths: dict[str, Path]) -> None:
    result = checked(paths, imatrix(*WEIGHTS))

    assert (result.format, result.n_entries, result.n_chunks, result.n_ctx) == ("gguf", 3, 2, 512)
    assert result.ignored == ()
    assert len(result.statistics.tensors) == 3


def test_what_it_lacks_is_listed(paths: dict[str, Path]) -> None:
    result = checked(paths, imatrix(*WEIGHTS))

    assert result.lacking == ("blk.1.ssm_out.weight", "output.weight", "token_embd.weight")


def test_another_width_is_refused(paths: dict[str, Path]) -> None:
    failed = refused(paths, imatrix(*WEIGHTS, n_channels=128))

    assert "3 tensors have another shape" in failed.message
    assert failed.evidence[0] == "blk.0.attn_qkv.weight: 128 values, the model needs 256"
    assert failed.hint is not None


def test_more_layers_than_the_model_has_are_refused(paths: dict[str, Path]) -> None:
    failed = refused(paths, imatrix(*WEIGHTS, "blk.2.attn_qkv.weight"))

    assert "another model" in failed.message
    assert failed.evidence == ("blk.2.attn_qkv.weight",)


def test_names_of_which_none_is_known_are_refused(paths: dict[str, Path]) -> None:
    assert "another model" in refused(paths, imatrix("blk.0.attn_q.weight")).message


def test_draft_layers_that_were_not_converted_are_ignored(paths: dict[str, Path]) -> None:
    draft = ("blk.2.nextn.eh_proj.weight", "blk.2.attn_q.weight")

    assert checked(paths, imatrix(*WEIGHTS, *draft)).ignored == tuple(sorted(draft))


def test_a_name_that_this_conversion_does_not_have_is_ignored(paths: dict[str, Path]) -> None:
    assert checked(paths, imatrix(*WEIGHTS, "blk.0.attn_q.weight")).ignored == (
        "blk.0.attn_q.weight",
    )


def test_experts_are_counted_in_the_shape(paths: dict[str, Path]) -> None:
    name = "blk.0.ffn_up_exps.weight"
    write_gguf(paths["model"], tensors={name: np.zeros((3, 4, 256), dtype=np.float32)})

    assert checked(paths, imatrix(name, n_experts=3)).lacking == ()
    paths["report"].unlink()
    assert "768" in refused(paths, imatrix(name, n_experts=2)).evidence[0]


def test_a_file_that_is_no_imatrix_is_refused(paths: dict[str, Path]) -> None:
    paths["imatrix"].write_bytes(b"not an imatrix, not at all")

    output = CliRunner().invoke(main, argv(CheckParams(), paths)[1:]).output

    failed = STAGE.explain(output)
    assert isinstance(failed, InputError)
    assert "neither a GGUF file nor a legacy .dat file" in failed.message


def test_without_its_files_there_is_no_result(paths: dict[str, Path]) -> None:
    with pytest.raises(UnreadableOutputError, match="readable activation statistics"):
        STAGE.read(CheckParams(), "", paths)
