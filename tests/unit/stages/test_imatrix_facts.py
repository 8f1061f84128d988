"""The statistics JSON, read strictly: nothing is made up where something is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llamacpp_pipeline.datasets.imatrix_statistics import statistics
from llamacpp_pipeline.errors import UnreadableOutputError
from llamacpp_pipeline.stages.imatrix_facts import facts_of, read_statistics, write_statistics
from tests.unit.results.sample import imatrix_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    given = imatrix_of()
    write_statistics(tmp_path / "s.json", statistics(given), imatrix=given, files=["i.gguf"])
    return tmp_path / "s.json"


def rewritten(path: Path, **changes: Any) -> None:  # noqa: ANN401  JSON
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_what_is_written_is_read_back(path: Path) -> None:
    assert read_statistics(path, tool="t") == facts_of(statistics(imatrix_of()))


def test_a_group_without_figures_is_absent() -> None:
    found = facts_of(statistics(imatrix_of(means=False)))

    assert {tensor.means for tensor in found.tensors} == {None}
    first, last = found.tensors[0], found.tensors[-1]
    assert first.to_previous is None
    assert last.to_previous is not None
    assert last.to_previous.means is None
    assert last.to_previous.mean_squares is not None


@pytest.mark.parametrize(
    ("changes", "evidence"),
    [
        ({"schema": 2}, "its schema is 2, not 1"),
        ({"tensors": [{"name": "a"}]}, "validation error"),
        ({"layers": [{"layer": 0}]}, "'tensors'"),
        ({"tensors": None}, "validation error"),
    ],
)
def test_another_form_is_refused(path: Path, changes: dict[str, Any], evidence: str) -> None:
    rewritten(path, **changes)

    with pytest.raises(UnreadableOutputError, match="readable activation statistics") as caught:
        read_statistics(path, tool="t")

    assert evidence in caught.value.evidence[0]


def test_no_tensors_are_no_statistics(path: Path) -> None:
    rewritten(path, tensors=[], layers=[])

    with pytest.raises(UnreadableOutputError, match="of any tensor"):
        read_statistics(path, tool="t")


def test_a_file_cut_short_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])

    with pytest.raises(UnreadableOutputError, match="readable activation statistics"):
        read_statistics(path, tool="t")
