from __future__ import annotations

from pathlib import Path

import pytest

from llamacpp_pipeline.errors import InputError, StepFailedError, UnreadableOutputError
from llamacpp_pipeline.stages.base import Placement
from llamacpp_pipeline.stages.perplexity import (
    REFERENCE,
    STAGE,
    PerplexityParams,
    PerplexityResult,
    argv,
    parse,
    predicted_logits_bytes,
    reference_argv,
    reference_parse,
)
from llamacpp_pipeline.units import Estimate
from tests.unit.stages.makers import recorded, write_gguf, write_logits

TOOL = "llama-perplexity"


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "text.txt").write_text("some text")
    return {
        "model": write_gguf(tmp_path / "m.gguf"),
        "corpus": tmp_path / "text.txt",
        "logits": tmp_path / "logits.kld",
    }


def test_every_number_is_passed(paths: dict[str, Path]) -> None:
    assert argv(PerplexityParams(), paths) == (
        "llama-perplexity",
        *("--model", str(paths["model"]), "--file", str(paths["corpus"]), "--no-escape"),
        *("--ctx-size", "512", "--batch-size", "2048", "--ubatch-size", "512"),
        *("--flash-attn", "auto", "--chunks", "-1", "--no-warmup"),
    )


def test_the_cut_asked_for_is_passed(paths: dict[str, Path]) -> None:
    params = PerplexityParams(n_ctx=256, n_chunks=7, n_batch=256, n_ubatch=64, flash_attn="off")

    assert argv(params, paths)[6:] == (
        *("--ctx-size", "256", "--batch-size", "256", "--ubatch-size", "64"),
        *("--flash-attn", "off", "--chunks", "7", "--no-warmup"),
    )


def test_the_reference_names_the_file_of_logits(paths: dict[str, Path]) -> None:
    plain = argv(PerplexityParams(), paths)

    assert reference_argv(PerplexityParams(), paths) == (
        *plain,
        *("--kl-divergence-base", str(paths["logits"])),
    )


@pytest.mark.parametrize(
    ("placement", "flags"),
    [
        (Placement(n_threads=3), ("--threads", "3", "--fit", "off")),
        (
            Placement(n_threads=3, n_gpu_layers=99, extra=("--split-mode", "row")),
            (
                *("--threads", "3", "--fit", "off"),
                *("--n-gpu-layers", "99", "--split-mode", "row"),
            ),
        ),
    ],
)
def test_placement(placement: Placement, flags: tuple[str, ...]) -> None:
    assert STAGE.placement(placement) == flags


def test_threads_are_at_least_one_where_none_are_named() -> None:
    flags = STAGE.placement(Placement())

    assert int(flags[1]) >= 1


@pytest.mark.parametrize(
    ("corpus", "message"), [(None, "no such text"), ("", r"text\.txt is empty")]
)
def test_a_text_that_cannot_be_used_is_refused_before_anything_runs(
    paths: dict[str, Path], corpus: str | None, message: str
) -> None:
    paths["corpus"].unlink()
    if corpus is not None:
        paths["corpus"].write_text(corpus)

    with pytest.raises(InputError, match=message):
        argv(PerplexityParams(), paths)


def test_a_model_cut_short_is_refused_before_anything_runs(paths: dict[str, Path]) -> None:
    paths["model"].write_bytes(paths["model"].read_bytes()[:-100])

    with pytest.raises(InputError, match="cut short"):
        argv(PerplexityParams(), paths)


def test_the_final_estimate_is_read(paths: dict[str, Path]) -> None:
    result = parse(recorded(TOOL, "good"), paths)

    assert result == PerplexityResult(
        ppl=Estimate(value=42.5802, stderr=4.49221), n_ctx=128, n_chunks=8
    )


def test_the_final_estimate_is_read_in_the_middle_of_a_line(paths: dict[str, Path]) -> None:
    log = recorded(TOOL, "good").replace("\n0.", " ETA 0.")

    assert parse(log, paths).ppl.value == 42.5802


def test_the_reference_tells_its_vocabulary_and_size(paths: dict[str, Path]) -> None:
    write_logits(paths["logits"], n_ctx=128, n_vocab=1024, n_chunks=8)

    result = reference_parse(recorded(TOOL, "reference"), paths)

    assert result.n_vocab == 1024
    assert result.logits_bytes == paths["logits"].stat().st_size


@pytest.mark.parametrize("missing", [1, 10_000])
def test_logits_that_a_full_disk_cut_are_refused(paths: dict[str, Path], missing: int) -> None:
    write_logits(paths["logits"], n_ctx=128, n_vocab=1024, n_chunks=8)
    paths["logits"].write_bytes(paths["logits"].read_bytes()[:-missing])

    with pytest.raises(UnreadableOutputError, match="a complete file of reference logits"):
        reference_parse(recorded(TOOL, "reference"), paths)


def test_logits_of_other_chunks_than_the_log_tells_are_refused(paths: dict[str, Path]) -> None:
    write_logits(paths["logits"], n_ctx=128, n_vocab=1024, n_chunks=7)

    with pytest.raises(UnreadableOutputError, match="logits of the chunks it reports"):
        reference_parse(recorded(TOOL, "reference"), paths)


def test_exit_zero_without_an_estimate_says_what_the_text_lacks(paths: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"256 tokens are needed .* it has 81") as caught:
        parse(recorded(TOOL, "text_too_short"), paths)
    assert caught.value.hint is not None
    assert "at most 40" in caught.value.hint


def test_a_lost_result_line_is_unreadable_output(paths: dict[str, Path]) -> None:
    log = recorded(TOOL, "good").partition("Final estimate")[0]

    with pytest.raises(UnreadableOutputError, match="Final estimate"):
        parse(log, paths)


def test_nan_is_refused_as_what_it_is(paths: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="not numbers"):
        parse(recorded(TOOL, "nan"), paths)


def test_an_error_line_beside_a_result_is_refused(paths: dict[str, Path]) -> None:
    log = recorded(TOOL, "good") + "0.00.999.000 E decode: something odd\n"

    with pytest.raises(UnreadableOutputError, match="a log free of errors") as caught:
        parse(log, paths)
    assert caught.value.evidence == ("decode: something odd",)


def test_a_run_with_another_context_is_refused(paths: dict[str, Path]) -> None:
    with pytest.raises(UnreadableOutputError, match="numbers for n_ctx 512"):
        STAGE.read(PerplexityParams(n_ctx=512), recorded(TOOL, "good"), paths)
    assert STAGE.read(PerplexityParams(n_ctx=128), recorded(TOOL, "good"), paths).n_chunks == 8


def test_more_chunks_than_asked_for_are_refused(paths: dict[str, Path]) -> None:
    with pytest.raises(UnreadableOutputError, match="4 chunks"):
        STAGE.read(PerplexityParams(n_ctx=128, n_chunks=4), recorded(TOOL, "good"), paths)


def test_a_load_failure_is_explained() -> None:
    explained = STAGE.explain(recorded(TOOL, "cut_gguf"))

    assert isinstance(explained, InputError)
    assert "cut short" in explained.message
    assert explained.evidence


def test_a_full_gpu_is_explained_with_a_remedy() -> None:
    log = "0.01.000.000 E alloc: allocating 900 MiB on device 0: cudaMalloc failed: out of memory"

    explained = STAGE.explain(log)

    assert isinstance(explained, StepFailedError)
    assert "n_gpu_layers" in (explained.hint or "")


def test_an_unknown_failure_is_left_to_the_tools_own_words() -> None:
    assert STAGE.explain(recorded(TOOL, "unknown_flag")) is None


@pytest.mark.parametrize(
    ("n_vocab", "n_ctx", "n_chunks", "size"),
    [
        pytest.param(32000, 256, 6, 48_780_260, id="as-a-run-of-the-tool-left-it"),
        pytest.param(8, 128, 8, 20 + 4 * 128 * 8 + 2 * 12 * 63 * 8, id="small"),
        pytest.param(7, 128, 8, 20 + 4 * 128 * 8 + 2 * 12 * 63 * 8, id="odd-vocabulary-is-padded"),
    ],
)
def test_the_size_of_the_logits_is_predicted(
    n_vocab: int, n_ctx: int, n_chunks: int, size: int
) -> None:
    assert predicted_logits_bytes(n_vocab=n_vocab, n_ctx=n_ctx, n_chunks=n_chunks) == size


def test_progress_counts_chunks() -> None:
    progress = STAGE.progress
    assert progress is not None
    assert progress.total is not None
    log = recorded(TOOL, "good")

    assert [match["n"] for match in progress.done.finditer(log)][-1] == "8"
    assert [match["n"] for match in progress.total.finditer(log)] == ["8"]
    assert REFERENCE.progress is progress
