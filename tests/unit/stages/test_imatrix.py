from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llamacpp_pipeline.datasets import imatrix_file
from llamacpp_pipeline.datasets.imatrix_statistics import statistics
from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages.imatrix import STAGE, ImatrixParams, argv, parse
from llamacpp_pipeline.stages.imatrix_facts import Coverage, write_statistics
from llamacpp_pipeline.units import Estimate
from tests.unit.stages.makers import recorded, write_gguf

TOOL = "llama-imatrix"


def write_imatrix(
    path: Path,
    *,
    sums: float = 1.0,
    counts: tuple[float, ...] = (5.0, 5.0),
    n_chunks: int = 10,
    kind: str = "imatrix",
) -> Path:
    """An imatrix of two weights, the second with as many experts as counts."""
    experts = np.array([[count] for count in counts], dtype=np.float32)
    return write_gguf(
        path,
        tensors={
            "a.weight.in_sum2": np.full((1, 8), sums, np.float32),
            "a.weight.counts": np.full((1, 1), 5, np.float32),
            "b_exps.weight.in_sum2": np.full((len(counts), 8), sums, np.float32),
            "b_exps.weight.counts": experts,
        },
        texts={"general.type": kind},
        numbers={"imatrix.chunk_count": n_chunks, "imatrix.chunk_size": 128},
    )


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "text.txt").write_text("some text")
    return {
        "model": write_gguf(tmp_path / "m.gguf"),
        "corpus": tmp_path / "text.txt",
        "imatrix": tmp_path / "imatrix.gguf",
        "statistics": tmp_path / "statistics.json",
    }


def write_both(paths: dict[str, Path], counts: tuple[float, ...] = (5.0, 5.0)) -> None:
    """The imatrix and the statistics that the tool writes beside it."""
    write_imatrix(paths["imatrix"], counts=counts)
    given = imatrix_file.read(paths["imatrix"])
    write_statistics(paths["statistics"], statistics(given), imatrix=given, files=["i.gguf"])


def test_argv(paths: dict[str, Path]) -> None:
    params = ImatrixParams(n_ctx=128, n_chunks=10, process_output=True, parse_special=True)

    assert argv(params, paths) == (
        TOOL,
        *("--model", str(paths["model"]), "--file", str(paths["corpus"]), "--no-escape"),
        *("--output", str(paths["imatrix"]), "--output-format", "gguf"),
        *("--output-frequency", "1000000000"),
        *("--statistics-file", str(paths["statistics"])),
        *("--ctx-size", "128", "--batch-size", "2048", "--ubatch-size", "512"),
        *("--flash-attn", "auto", "--chunks", "10"),
        *("--process-output", "--parse-special"),
    )


def test_the_flags_that_are_off_are_not_passed(paths: dict[str, Path]) -> None:
    flags = argv(ImatrixParams(), paths)

    assert "--process-output" not in flags
    assert "--parse-special" not in flags


def test_log_and_file_give_the_result(paths: dict[str, Path]) -> None:
    write_both(paths)

    result = parse(recorded(TOOL, "good"), paths)

    assert result.n_entries == 2
    assert (result.n_chunks, result.n_ctx) == (10, 128)
    assert result.ppl == Estimate(value=27.9157, stderr=2.52068)
    assert result.partial == ()


def test_experts_that_saw_nothing_are_named(paths: dict[str, Path]) -> None:
    write_both(paths, counts=(5.0, 0.0, 3.0))

    result = parse(recorded(TOOL, "good"), paths)

    assert result.partial == ("b_exps.weight",)
    experts = {tensor.name: tensor.experts for tensor in result.statistics.tensors}
    assert experts["a.weight"] is None
    assert experts["b_exps.weight"] == Coverage(n_experts=3, n_unseen=1, n_few=3, fewest_rows=0)


def test_statistics_of_another_imatrix_are_refused(paths: dict[str, Path]) -> None:
    write_both(paths)
    paths["statistics"].write_text(paths["statistics"].read_text().replace("a.weight", "c.weight"))

    with pytest.raises(UnreadableOutputError, match="statistics of the tensors it wrote") as caught:
        parse(recorded(TOOL, "good"), paths)

    assert caught.value.evidence == ("a.weight", "c.weight")


def test_an_imatrix_without_its_statistics_is_refused(paths: dict[str, Path]) -> None:
    write_imatrix(paths["imatrix"])

    with pytest.raises(UnreadableOutputError, match="readable activation statistics"):
        parse(recorded(TOOL, "good"), paths)


def test_a_text_known_by_heart_has_no_ppl(paths: dict[str, Path]) -> None:
    write_both(paths)
    log = recorded(TOOL, "good").replace(
        "Final estimate: PPL = 27.9157 +/- 2.52068",
        "Unexpected negative standard deviation of log(prob)",
    )

    assert parse(log, paths).ppl is None


def test_nan_is_not_taken_for_a_text_known_by_heart(paths: dict[str, Path]) -> None:
    write_imatrix(paths["imatrix"])
    log = "computing over 1 chunks, n_ctx=128\n[1]nan,\nUnexpected negative standard deviation\n"

    with pytest.raises(InputError, match="not numbers"):
        parse(log, paths)


def test_an_output_that_was_not_written_is_missed_though_the_tool_exits_zero(
    paths: dict[str, Path],
) -> None:
    with pytest.raises(UnreadableOutputError) as caught:
        parse(recorded(TOOL, "unwritable_output"), paths)
    assert any("failed to open file" in line for line in caught.value.evidence)


def test_a_lost_error_line_does_not_hide_a_missing_file(paths: dict[str, Path]) -> None:
    with pytest.raises(UnreadableOutputError, match="a readable imatrix file"):
        parse(recorded(TOOL, "good"), paths)


def test_a_file_cut_short_is_refused(paths: dict[str, Path]) -> None:
    write_imatrix(paths["imatrix"])
    paths["imatrix"].write_bytes(paths["imatrix"].read_bytes()[:-40])

    with pytest.raises(UnreadableOutputError, match="a readable imatrix file"):
        parse(recorded(TOOL, "good"), paths)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"n_chunks": 9}, "of the chunks it reports"),
        ({"sums": float("nan")}, "finite sums"),
        ({"kind": "model"}, "an imatrix file"),
    ],
)
def test_a_file_that_is_not_the_imatrix_of_this_run_is_refused(
    paths: dict[str, Path], how: dict[str, object], message: str
) -> None:
    write_imatrix(paths["imatrix"], **how)  # type: ignore[arg-type]

    with pytest.raises(UnreadableOutputError, match=message):
        parse(recorded(TOOL, "good"), paths)


def test_a_gguf_without_entries_is_refused(paths: dict[str, Path]) -> None:
    write_gguf(
        paths["imatrix"],
        texts={"general.type": "imatrix"},
        numbers={"imatrix.chunk_count": 10, "imatrix.chunk_size": 128},
    )

    with pytest.raises(UnreadableOutputError, match="a sum and a count for every weight"):
        parse(recorded(TOOL, "good"), paths)


def test_a_short_text_is_explained() -> None:
    explained = STAGE.explain(recorded(TOOL, "text_too_short"))

    assert isinstance(explained, InputError)
    assert "256 tokens are needed" in explained.message


def test_values_that_are_not_finite_are_explained() -> None:
    explained = STAGE.explain(recorded(TOOL, "nan"))

    assert isinstance(explained, InputError)
    assert "blk.0.attn_qkv.weight" in explained.message


def test_an_imatrix_of_another_context_is_refused(paths: dict[str, Path]) -> None:
    write_both(paths)
    log = recorded(TOOL, "good")

    assert STAGE.read(ImatrixParams(n_ctx=128, n_chunks=10), log, paths).n_chunks == 10
    with pytest.raises(UnreadableOutputError, match="an imatrix for n_ctx 512"):
        STAGE.read(ImatrixParams(n_ctx=512), log, paths)
