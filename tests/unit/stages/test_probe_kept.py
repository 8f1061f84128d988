"""What an interrupted probe keeps, and what a step takes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llamacpp_pipeline.errors import UnreadableOutputError
from llamacpp_pipeline.stages.base import SHARED
from llamacpp_pipeline.stages.probe import STAGE, ProbeParams
from llamacpp_pipeline.stages.probe_kept import kept_file, take
from llamacpp_pipeline.stages.probe_lines import read_measurements
from tests.unit.stages.makers import LOGS, recorded

TOOL = "llama-kld-probe"
PARAMS = ProbeParams(n_ctx=64, n_chunks=4, types=("q2_K", "q8_0"))


@pytest.fixture
def lines() -> list[str]:
    return (LOGS / TOOL / "b10454" / "good.jsonl").read_text(encoding="utf-8").splitlines()


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / SHARED).mkdir()
    return {"measurements": tmp_path / "measurements.jsonl", SHARED: tmp_path / SHARED}


def keep(paths: dict[str, Path], lines: list[str], *, tail: str = "") -> Path:
    file = kept_file(PARAMS, paths)
    file.write_text("".join(f"{line}\n" for line in lines) + tail, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    "change",
    [
        {"n_ctx": 128},
        {"n_chunks": None},
        {"n_batch": 512},
        {"n_ubatch": 256},
        {"flash_attn": "on"},
        {"types": ("q2_K",)},
        {"hold": "dequantized"},
        {"bands": 2},
        {"precision": 0.1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_lines_of_other_parameters_lie_in_another_file(
    paths: dict[str, Path], change: dict[str, object]
) -> None:
    other = PARAMS.model_copy(update=change)
    assert kept_file(other, paths) != kept_file(PARAMS, paths)


def test_every_parameter_is_one_that_changes_the_file_or_the_time(paths: dict[str, Path]) -> None:
    """So that whoever adds one decides which."""
    decided = {"n_ctx", "n_chunks", "n_batch", "n_ubatch", "flash_attn", "types", "hold", "bands"}
    assert set(ProbeParams.model_fields) == decided | {"precision", "minutes"}
    longer = PARAMS.model_copy(update={"minutes": 60.0})
    assert kept_file(longer, paths) == kept_file(PARAMS, paths)


def test_what_is_kept_becomes_the_output_and_stays(
    paths: dict[str, Path], lines: list[str]
) -> None:
    file = keep(paths, lines)
    take(PARAMS, paths)
    result = STAGE.read(PARAMS, recorded(TOOL, "good"), paths)
    assert result.n_measurements == len(lines) == 33
    assert paths["measurements"].read_bytes() == file.read_bytes()
    assert not paths["measurements"].is_symlink()


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda lines: [*lines[:9], lines[9][:90], *lines[9:]], id="torn"),
        pytest.param(lambda lines: [*lines[:9], "\0" * 50, *lines[9:]], id="zeros"),
        pytest.param(lambda lines: [*lines[:9], "[]", '{"key": 1}', *lines[9:]], id="no-line"),
        pytest.param(lambda lines: [*lines, lines[3]], id="measured-by-two-at-once"),
        pytest.param(lambda lines: [*lines[1:], lines[0]], id="floor-measured-again-last"),
    ],
)
def test_harm_that_the_tool_makes_good_is_none_to_the_output(
    paths: dict[str, Path], lines: list[str], harm: Callable[[list[str]], list[str]]
) -> None:
    keep(paths, harm(lines), tail=lines[5][:70])
    take(PARAMS, paths)
    assert paths["measurements"].read_text(encoding="utf-8").splitlines() == lines
    assert len(read_measurements(paths["measurements"])) == 33


def test_what_the_tool_would_reuse_and_is_no_measurement_is_refused_once(
    paths: dict[str, Path], lines: list[str]
) -> None:
    bad = json.dumps({**json.loads(lines[7]), "kld": None})
    file = keep(paths, [*lines[:7], bad, *lines[8:]])

    take(PARAMS, paths)

    with pytest.raises(UnreadableOutputError, match="whole lines") as caught:
        STAGE.read(PARAMS, recorded(TOOL, "good"), paths)
    assert caught.value.evidence[0].startswith("kld:")
    assert file.read_text(encoding="utf-8").splitlines() == [*lines[:7], *lines[8:]]


def test_of_nothing_nothing_is_taken(paths: dict[str, Path]) -> None:
    take(PARAMS, paths)
    assert not paths["measurements"].exists()
