"""The merge step: its command, its result, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from llamacpp_pipeline.datasets import imatrix_file
from llamacpp_pipeline.datasets.imatrix_file import merge
from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages.imatrix_merge import STAGE, TOOL, MergeParams, argv, main, parse
from tests.unit.results.sample import imatrix_of

PARAMS = MergeParams(weights=(2, 1))


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    found = {name: tmp_path / f"{name}.gguf" for name in ("part1", "part2", "imatrix")}
    imatrix_file.write(imatrix_of(), found["part1"])
    imatrix_file.write(imatrix_of(counts=(50,)), found["part2"])
    return {**found, "statistics": tmp_path / "statistics.json"}


def ran(paths: dict[str, Path], params: MergeParams = PARAMS) -> str:
    """What the child says."""
    done = CliRunner().invoke(main, argv(params, paths)[1:])
    return done.output


def test_argv(paths: dict[str, Path]) -> None:
    assert argv(PARAMS, paths) == (
        TOOL,
        *("--part", str(paths["part1"]), "2", "--part", str(paths["part2"]), "1"),
        *("--output", str(paths["imatrix"]), "--statistics", str(paths["statistics"])),
    )


def test_the_parts_are_added_by_their_weights(paths: dict[str, Path]) -> None:
    result = parse(ran(paths), paths)

    merged = imatrix_file.read(paths["imatrix"])
    first, second = (imatrix_file.read(paths[name]) for name in ("part1", "part2"))
    expected = merge([first, first, second])
    for name, entry in merged.entries.items():
        np.testing.assert_allclose(entry.squares, expected.entries[name].squares, rtol=1e-6)
        assert entry.n_rows == 250
    assert (result.n_parts, result.n_entries) == (2, 4)
    assert (result.n_chunks, result.n_ctx) == (40, 256)
    assert {tensor.n_rows for tensor in result.statistics.tensors} == {250}


def test_a_weight_gives_an_expert_no_more_evidence(paths: dict[str, Path]) -> None:
    imatrix_file.write(imatrix_of(counts=(100, 3)), paths["part1"])
    imatrix_file.write(imatrix_of(counts=(100, 0)), paths["part2"])

    result = parse(ran(paths, MergeParams(weights=(99, 1))), paths)

    found = result.statistics.tensors[0].experts
    assert found is not None
    assert (found.fewest_rows, found.n_few) == (3, 1)
    assert result.partial == ()


def test_parts_of_different_models_are_refused(paths: dict[str, Path]) -> None:
    imatrix_file.write(imatrix_of(n_channels=9), paths["part2"])

    failed = STAGE.explain(ran(paths))

    assert isinstance(failed, InputError)
    assert "do not fit together" in failed.message
    assert failed.hint == "merge files of one model only"


def test_a_merge_that_did_not_end_is_no_result(paths: dict[str, Path]) -> None:
    with pytest.raises(UnreadableOutputError, match="its last word"):
        parse("", paths)
