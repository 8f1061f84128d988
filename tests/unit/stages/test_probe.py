"""The stage around llama-kld-probe: its command line, and the proof of its measurements."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from llamacpp_pipeline.errors import InputError, PipelineError, UnreadableOutputError
from llamacpp_pipeline.stages.base import SHARED
from llamacpp_pipeline.stages.probe import STAGE, ProbeParams, argv, complete, explain, parse
from llamacpp_pipeline.stages.probe_kept import kept_file
from llamacpp_pipeline.stages.probe_lines import read_measurements
from tests.unit.stages.makers import LOGS, recorded, write_gguf

TOOL = "llama-kld-probe"


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    corpus, measurements = tmp_path / "text.txt", tmp_path / "measurements.jsonl"
    corpus.write_text("text", encoding="utf-8")
    measurements.write_bytes((LOGS / TOOL / "b10454" / "good.jsonl").read_bytes())
    return {
        "model": write_gguf(tmp_path / "m.gguf"),
        "corpus": corpus,
        "imatrix": tmp_path / "i.gguf",
        "measurements": measurements,
        SHARED: tmp_path / "shared",
    }


def test_every_number_is_passed_none_is_left_to_the_tool(paths: dict[str, Path]) -> None:
    params = ProbeParams(
        n_ctx=256, n_chunks=8, types=("Q4_K", "q8_0"), bands=4, precision=0.1, minutes=30
    )
    assert argv(params, paths) == (
        TOOL,
        *("--model", str(paths["model"]), "--file", str(paths["corpus"]), "--no-escape"),
        *("--imatrix", str(paths["imatrix"]), "--results", str(kept_file(params, paths))),
        *("--types", "q4_K,q8_0", "--hold", "native"),
        *("--bands", "4", "--precision", "0.1", "--minutes", "30.0"),
        *("--ctx-size", "256", "--batch-size", "2048", "--ubatch-size", "512"),
        *("--flash-attn", "auto", "--chunks", "8"),
    )


def test_what_is_not_asked_for_is_not_passed(paths: dict[str, Path]) -> None:
    del paths["imatrix"]
    given = argv(ProbeParams(n_chunks=None), paths)
    assert not {"--imatrix", "--bands", "--precision", "--minutes"} & set(given)
    assert given[-2:] == ("--chunks", "-1")


@pytest.mark.parametrize(
    "wrong", [{"types": []}, {"types": ["q9_K"]}, {"types": ["f32"]}, {"minutes": 0}]
)
def test_what_cannot_be_probed_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ProbeParams.model_validate(wrong)


def test_a_good_run_is_summed_up(paths: dict[str, Path]) -> None:
    params = ProbeParams(n_ctx=64, n_chunks=4)
    result = STAGE.read(params, recorded(TOOL, "good"), paths)
    assert (result.n_measurements, result.n_missing) == (33, 0)
    assert (result.n_ctx, result.n_chunks, result.n_tokens) == (64, 4, 124)
    assert abs(result.floor) < 1e-7  # of F32 arithmetic
    assert result.seconds > 0


def test_the_measurements_are_read_the_floor_first(paths: dict[str, Path]) -> None:
    found = read_measurements(paths["measurements"])
    assert found[0].tensors == {}
    assert found[1].only_type == "q2_K"
    assert len(found[1].chunk_kld) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda lines: lines[1:], "floor", id="no-floor"),
        pytest.param(lambda lines: lines[:-1], "a line for each", id="one-missing"),
        pytest.param(lambda lines: [*lines, lines[1]], "each measurement once", id="twice"),
        pytest.param(lambda lines: [*lines[:-1], lines[-1][:90]], "whole lines", id="torn"),
        pytest.param(
            lambda lines: [line.replace('"kld":', '"kld":NaN,"x":') for line in lines],
            "whole lines",
            id="not-a-number",
        ),
    ],
)
def test_a_file_that_proves_nothing_is_no_result(
    paths: dict[str, Path], change: object, message: str
) -> None:
    lines = paths["measurements"].read_text(encoding="utf-8").splitlines()
    assert callable(change)
    paths["measurements"].write_text("\n".join(change(lines)) + "\n", encoding="utf-8")
    with pytest.raises(UnreadableOutputError, match=message):
        parse(recorded(TOOL, "good"), paths)


def test_a_budget_that_ran_out_is_counted(paths: dict[str, Path]) -> None:
    lines = paths["measurements"].read_text(encoding="utf-8").splitlines()[:1]
    paths["measurements"].write_text(lines[0] + "\n", encoding="utf-8")
    result = parse(recorded(TOOL, "out_of_time"), paths)
    assert (result.n_measurements, result.n_missing) == (1, 32)
    params = ProbeParams(n_ctx=64, n_chunks=4, minutes=1)
    with pytest.raises(UnreadableOutputError, match="measurement of a tensor") as caught:
        complete(params, result, paths)
    assert "sensitivity.minutes" in (caught.value.hint or "")
    with pytest.raises(UnreadableOutputError, match="all measurements"):
        complete(params.model_copy(update={"minutes": None}), result, paths)


def test_another_cut_than_asked_for_is_refused(paths: dict[str, Path]) -> None:
    result = parse(recorded(TOOL, "good"), paths)
    with pytest.raises(UnreadableOutputError, match="n_ctx 128"):
        complete(ProbeParams(n_ctx=128), result, paths)


@pytest.mark.parametrize(
    ("case", "message", "hint"),
    [
        pytest.param("text_too_short", "probe text is too short", "n_ctx", id="short"),
        pytest.param("not_a_model", "is not a GGUF", "again", id="no-model"),
        pytest.param("kept_is_other", "cannot be read", "cache prune --shared", id="kept"),
        pytest.param("no_imatrix_data", "no tensor can be made", "calibration", id="no-imatrix"),
    ],
)
def test_a_failure_says_what_to_do(
    paths: dict[str, Path], case: str, message: str, hint: str
) -> None:
    found = explain(recorded(TOOL, case))
    assert isinstance(found, InputError)
    assert message in found.message
    assert hint in (found.hint or "")
    with pytest.raises(PipelineError, match=message):
        parse(recorded(TOOL, case), paths)
