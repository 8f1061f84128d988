"""`imatrix show|compare|merge`, on our files, upstream's and the legacy format."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from llamacpp_pipeline.cli.imatrix import imatrix
from llamacpp_pipeline.cli.main import cli, guarded
from llamacpp_pipeline.datasets import imatrix_file
from llamacpp_pipeline.errors import InputError, UsageError
from tests.unit.results.sample import imatrix_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    imatrix_file.write(imatrix_of(), Path("ours.gguf"))
    imatrix_file.write(imatrix_of(means=False, counts=(40,)), Path("upstream.gguf"))
    return tmp_path


def legacy(path: Path, name: str, values: list[float], *, n_calls: int = 3) -> None:
    packed = struct.pack(f"<i{len(name)}sii", len(name), name.encode(), n_calls, len(values))
    path.write_bytes(struct.pack("<i", 1) + packed + struct.pack(f"<{len(values)}f", *values))


def called(*arguments: str) -> Result:
    return CliRunner().invoke(imatrix, arguments, catch_exceptions=False)


@pytest.mark.usefixtures("folder")
class TestShow:
    def test_tensors_and_layers_as_a_table(self) -> None:
        lines = called("show", "ours.gguf").stdout.splitlines()

        assert lines[0] == (
            "ours.gguf (gguf): 4 tensors, 20 chunks of 256 tokens, from in/corpus/text.txt"
        )
        assert [line.split()[1] for line in lines[3:7]] == [
            "blk.0.attn_q.weight",
            "blk.0.ffn_up.weight",
            "blk.1.attn_q.weight",
            "blk.1.ffn_up.weight",
        ]
        assert [line.split()[0] for line in lines[9:]] == ["0", "1"]

    def test_the_json_is_that_of_the_tool_with_the_sensitivities(self) -> None:
        shown = json.loads(called("show", "ours.gguf", "--format", "json").stdout)

        assert shown["schema"] == 1
        assert len(shown["tensors"]) == 4
        assert max(one["normalised"] for one in shown["tensor_h_diag"]) == 1
        assert shown["layer_h_diag"][0].keys() == {"layer", "h_diag", "normalised"}

    def test_missing_means_are_noted_once(self) -> None:
        shown = called("show", "upstream.gguf").stdout

        assert shown.count("signed means") == 1
        assert "signed means" not in called("show", "ours.gguf").stdout

    def test_a_legacy_file_has_as_many_rows_as_the_chunk_size_says(self) -> None:
        legacy(Path("old.dat"), "blk.0.attn_q.weight", [3.0, 6.0])

        shown = called("show", "old.dat", "--dat-chunk-size", "64", "--format", "json")

        (tensor,) = json.loads(shown.stdout)["tensors"]
        assert tensor["n_rows"] == 192
        assert tensor["mean_square"] == 1.5

    def test_a_file_that_is_none_is_refused(self) -> None:
        Path("text.gguf").write_text("nothing of the kind, whatever its name says")

        with pytest.raises(InputError, match="neither a GGUF file nor a legacy"):
            called("show", "text.gguf")


@pytest.mark.usefixtures("folder")
class TestCompare:
    def test_the_most_different_tensor_comes_first(self) -> None:
        other = imatrix_of()
        entry = other.entries["blk.1.attn_q.weight"]
        changed = replace(entry, squares=entry.squares[:, ::-1] ** 3)
        entries = {**other.entries, entry.name: changed}
        imatrix_file.write(replace(other, entries=entries), Path("other.gguf"))

        lines = called("compare", "ours.gguf", "other.gguf").stdout.splitlines()

        assert lines[1].startswith("blk.1.attn_q.weight")
        assert " 1.000000" in lines[2]

    def test_what_cannot_be_compared_is_listed(self) -> None:
        other = imatrix_of(n_channels=4)
        entries = {name.replace("blk.1.", "blk.7."): e for name, e in other.entries.items()}
        renamed = {name: replace(entry, name=name) for name, entry in entries.items()}
        imatrix_file.write(replace(other, entries=renamed), Path("other.gguf"))

        shown = called("compare", "ours.gguf", "other.gguf").stdout

        assert "no tensor is in both files with the same shape" in shown
        assert "only in the first: 2: blk.1.attn_q.weight, blk.1.ffn_up.weight" in shown
        assert "only in the second: 2: blk.7.attn_q.weight, blk.7.ffn_up.weight" in shown
        assert "of another shape: 2: blk.0.attn_q.weight, blk.0.ffn_up.weight" in shown

    def test_as_json(self) -> None:
        shown = json.loads(called("compare", "ours.gguf", "ours.gguf", "--format", "json").stdout)

        assert {one["gain"] for one in shown["tensors"]} == {1.0}
        assert shown["only_first"] == []


@pytest.mark.usefixtures("folder")
class TestMerge:
    def test_rows_are_added_by_weight_and_the_path_is_printed(self) -> None:
        done = called(
            "merge", "ours.gguf", "upstream.gguf", "--weight", "1", "--weight", "5",
            "--output", "m.gguf",
        )  # fmt: skip

        assert done.stdout == "m.gguf\n"
        merged = imatrix_file.read(Path("m.gguf"))
        assert {entry.n_rows for entry in merged.entries.values()} == {300}
        assert merged.chunk_count == 40

    def test_nothing_is_written_over(self) -> None:
        with pytest.raises(UsageError, match="is there already"):
            called("merge", "upstream.gguf", "ours.gguf", "--output", "ours.gguf")

    def test_weights_go_with_files(self) -> None:
        with pytest.raises(UsageError, match="1 weights for 2 files"):
            called("merge", "ours.gguf", "upstream.gguf", "--weight", "2", "--output", "m.gguf")
        assert not Path("m.gguf").exists()


def test_it_is_a_verb_of_the_program(folder: Path) -> None:
    del folder

    assert "imatrix" in CliRunner().invoke(cli, ["--help"]).stdout
    assert guarded(["imatrix", "merge", "gone.gguf", "--output", "m.gguf"]) == 2
