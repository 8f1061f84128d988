from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from llamacpp_pipeline.errors import UnreadableOutputError
from llamacpp_pipeline.stages.base import Placement
from llamacpp_pipeline.stages.bench import STAGE, BenchParams, argv, parse
from llamacpp_pipeline.units import Estimate
from tests.unit.stages.makers import recorded, write_gguf

TOOL = "llama-bench"
PATHS: dict[str, Path] = {}


@pytest.mark.parametrize(
    ("tests", "flags"),
    [
        (("pp512", "tg128", "pp1024+tg1024"), ("-p", "512", "-n", "128", "-pg", "1024,1024")),
        (("pp512", "pp64"), ("-p", "512,64", "-n", "0")),
        (("pp8+tg4", "pp16+tg2"), ("-p", "0", "-n", "0", "-pg", "8,4", "-pg", "16,2")),
    ],
)
def test_argv(tmp_path: Path, tests: tuple[str, ...], flags: tuple[str, ...]) -> None:
    model = write_gguf(tmp_path / "m.gguf")

    assert argv(BenchParams(tests=tests, repetitions=3), {"model": model}) == (
        TOOL,
        *("--model", str(model)),
        *flags,
        *("--repetitions", "3", "--batch-size", "2048", "--ubatch-size", "512"),
        *("--output", "jsonl", "--progress"),
    )


def test_placement() -> None:
    assert STAGE.placement(Placement(n_threads=2)) == ("--threads", "2")
    assert STAGE.placement(Placement(n_threads=2, n_gpu_layers=0, extra=("-sm", "none"))) == (
        *("--threads", "2", "--n-gpu-layers", "0"),
        *("-sm", "none"),
    )


@pytest.mark.parametrize(
    ("tests", "message"),
    [((), "name at least one"), (("pp8", "pp8"), "'pp8' is listed twice"), (("pp",), "pattern")],
)
def test_tests_that_make_no_sense_are_refused(tests: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        BenchParams(tests=tests)


def test_every_test_has_its_row() -> None:
    result = parse(recorded(TOOL, "good"), PATHS)

    assert [row.test for row in result.rows] == ["pp32", "tg8", "pp16+tg8"]
    assert result.rows[0].tokens_per_second == Estimate(value=1837.810331, stderr=336.174523)
    assert result.rows[0].samples == (2075.52, 1600.1)
    assert (result.backends, result.gpu, result.n_threads) == ("CPU", "", 1)
    assert result.n_gpu_layers == -1
    assert result.cpu


def test_rows_come_in_the_order_asked_for() -> None:
    params = BenchParams(tests=("pp16+tg8", "tg8", "pp32"))

    rows = STAGE.read(params, recorded(TOOL, "good"), PATHS).rows

    assert [row.test for row in rows] == ["pp16+tg8", "tg8", "pp32"]


@pytest.mark.parametrize("tests", [("pp32", "tg8"), ("pp32", "tg8", "pp16+tg8", "pp64")])
def test_other_tests_than_asked_for_are_refused(tests: tuple[str, ...]) -> None:
    with pytest.raises(UnreadableOutputError, match="exactly the tests asked for"):
        STAGE.read(BenchParams(tests=tests), recorded(TOOL, "good"), PATHS)


def test_a_missing_line_is_missed() -> None:
    lines = recorded(TOOL, "good").splitlines()
    without_last = "\n".join(line for line in lines if '"n_prompt": 16' not in line)

    with pytest.raises(UnreadableOutputError, match="one JSON line for each test"):
        parse(without_last, PATHS)


def test_a_test_that_is_there_twice_is_refused() -> None:
    log = recorded(TOOL, "good").replace('"n_prompt": 0, "n_gen": 8', '"n_prompt": 32, "n_gen": 0')

    with pytest.raises(UnreadableOutputError, match="each test once"):
        parse(log, PATHS)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [('"avg_ts"', '"average"'), ("1837.810331", '"fast"'), ("1837.810331", "1e999")],
)
def test_a_line_without_its_figures_is_refused(right: str, wrong: str) -> None:
    log = recorded(TOOL, "good").replace(right, wrong, 1)

    with pytest.raises(UnreadableOutputError, match="a readable JSON line") as caught:
        parse(log, PATHS)
    assert "avg_ts" in caught.value.evidence[0]


def test_a_failure_is_told_in_the_tools_words() -> None:
    with pytest.raises(UnreadableOutputError) as caught:
        parse(recorded(TOOL, "missing_model"), PATHS)
    assert caught.value.evidence == ("llama_bench: error: failed to load model 'nothing.gguf'",)


def test_its_numbers_belong_to_the_machine() -> None:
    assert STAGE.machine_bound
