from __future__ import annotations

from pathlib import Path

import pytest

from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages.kld import STAGE, KldParams, argv, parse
from llamacpp_pipeline.units import Estimate
from tests.unit.stages.makers import recorded, write_gguf, write_logits

TOOL = "llama-perplexity"


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    return {
        "model": write_gguf(tmp_path / "m.gguf"),
        "logits": write_logits(tmp_path / "logits.kld"),
    }


def test_the_cut_of_the_reference_is_passed_on(paths: dict[str, Path]) -> None:
    assert argv(KldParams(n_ctx=128, n_chunks=8), paths) == (
        TOOL,
        *("--model", str(paths["model"])),
        *("--kl-divergence", "--kl-divergence-base", str(paths["logits"])),
        *("--ctx-size", "128", "--batch-size", "2048", "--ubatch-size", "512"),
        *("--flash-attn", "auto", "--chunks", "8", "--no-warmup"),
    )


@pytest.mark.parametrize("params", [KldParams(n_ctx=64), KldParams(n_ctx=128, n_chunks=4)])
def test_logits_of_another_cut_are_refused_before_anything_runs(
    paths: dict[str, Path], params: KldParams
) -> None:
    with pytest.raises(InputError, match="another cut") as caught:
        argv(params, paths)
    assert caught.value.evidence[0] == "the logits: n_ctx 128, 8 chunks"


def test_another_vocabulary_is_refused_before_anything_runs(paths: dict[str, Path]) -> None:
    write_gguf(paths["model"], n_vocab=9)

    with pytest.raises(InputError, match="another vocabulary") as caught:
        argv(KldParams(n_ctx=128), paths)
    assert caught.value.evidence == ("9 tokens against 8",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Base text", "is not a file of reference logits"),
        (b"_logits_\x00\x00", "ends within its header"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_is_no_logits_is_refused(
    paths: dict[str, Path], content: bytes | None, message: str
) -> None:
    paths["logits"].unlink()
    if content is not None:
        paths["logits"].write_bytes(content)

    with pytest.raises(InputError, match=message):
        argv(KldParams(n_ctx=128), paths)


def test_incomplete_logits_are_refused(paths: dict[str, Path]) -> None:
    paths["logits"].write_bytes(paths["logits"].read_bytes()[:-1])

    with pytest.raises(InputError, match="is incomplete") as caught:
        argv(KldParams(n_ctx=128), paths)
    assert "disk" in (caught.value.hint or "")


def test_every_figure_is_read(paths: dict[str, Path]) -> None:
    result = parse(recorded(TOOL, "kld_good"), paths)

    assert (result.n_ctx, result.n_chunks) == (128, 8)
    assert result.ppl == Estimate(value=42.439819, stderr=4.479360)
    assert result.reference_ppl == Estimate(value=42.579972, stderr=4.492183)
    assert result.ppl_correlation == 99.95
    assert result.ln_ppl_ratio == Estimate(value=-0.003297, stderr=0.003168)
    assert result.ppl_ratio == Estimate(value=0.996708, stderr=0.003157)
    assert result.ppl_difference == Estimate(value=-0.140153, stderr=0.135246)
    assert result.mean_kld == Estimate(value=0.003116, stderr=0.000242)
    assert (result.max_kld, result.min_kld) == (0.078696, 0.000038)
    assert result.kld_percentiles == {
        "99.9": 0.065089,
        "99.0": 0.022490,
        "95.0": 0.009988,
        "90.0": 0.006534,
        "50.0": 0.001683,
        "10.0": 0.000563,
        "5.0": 0.000352,
        "1.0": 0.000132,
        "0.1": 0.000058,
    }
    assert result.mean_delta_p == Estimate(value=-0.021, stderr=0.039)
    assert (result.max_delta_p, result.min_delta_p) == (4.336, -4.899)
    assert result.delta_p_percentiles == {
        "99.9": 4.141,
        "99.0": 2.777,
        "95.0": 1.402,
        "90.0": 0.582,
        "75.0": 0.092,
        "50.0": 0.0,
        "25.0": -0.093,
        "10.0": -0.810,
        "5.0": -1.385,
        "1.0": -3.195,
        "0.1": -4.711,
    }
    assert result.rms_delta_p == Estimate(value=0.880, stderr=0.062)
    assert result.same_top_p == Estimate(value=95.040, stderr=0.968)


def test_the_reference_against_itself_is_readable(paths: dict[str, Path]) -> None:
    result = parse(recorded(TOOL, "kld_against_itself"), paths)

    assert result.mean_kld == Estimate(value=0.0, stderr=0.0)
    assert result.min_kld == -0.000046
    assert result.ln_ppl_ratio == Estimate(value=0.000004, stderr=None)
    assert result.same_top_p.value == 100


def test_a_nan_error_of_a_ratio_that_is_not_next_to_one_is_refused(paths: dict[str, Path]) -> None:
    log = recorded(TOOL, "kld_against_itself").replace("0.000004 ±", "0.100004 ±")

    with pytest.raises(UnreadableOutputError, match="Mean ln"):
        parse(log, paths)


@pytest.mark.parametrize(
    "line",
    [
        "Mean PPL(Q)   ",
        "Cor(ln",
        "Mean    KLD",
        "Maximum KLD",
        "99.9%   KLD",
        "Median  KLD",
        " 0.1%   KLD",
        "Minimum KLD",
        "75.0%   Δp",
        "Median  Δp",
        "RMS Δp",
        "Same top p",
    ],
)
def test_a_missing_line_is_missed_aloud(paths: dict[str, Path], line: str) -> None:
    kept = [text for text in recorded(TOOL, "kld_good").splitlines() if not text.startswith(line)]

    with pytest.raises(UnreadableOutputError, match="a finite"):
        parse("\n".join(kept), paths)


@pytest.mark.parametrize("bad", ["nan", "-nan", "inf"])
def test_what_is_not_finite_is_never_returned(paths: dict[str, Path], bad: str) -> None:
    log = recorded(TOOL, "kld_good").replace("Maximum KLD:   0.078696", f"Maximum KLD:   {bad}")

    with pytest.raises(UnreadableOutputError, match="Maximum KLD"):
        parse(log, paths)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("kld_cut_logits", "failed reading log-probs for chunk 3"),
        ("kld_other_vocabulary", "inconsistent vocabulary (1000 vs 1024)"),
        ("kld_no_logits", "does not look like a file containing log-probabilities"),
    ],
)
def test_exit_zero_after_a_failure_is_refused_in_the_tools_words(
    paths: dict[str, Path], case: str, words: str
) -> None:
    with pytest.raises(UnreadableOutputError) as caught:
        parse(recorded(TOOL, case), paths)
    assert any(words in line for line in caught.value.evidence)


def test_a_run_over_other_chunks_than_the_logits_hold_is_refused(paths: dict[str, Path]) -> None:
    write_logits(paths["logits"], n_chunks=9)

    with pytest.raises(UnreadableOutputError, match="the chunks of the reference"):
        parse(recorded(TOOL, "kld_good"), paths)


def test_too_few_tokens_for_statistics_are_explained(paths: dict[str, Path]) -> None:
    log = recorded(TOOL, "kld_good").replace("over 8 chunks", "over 1 chunks")

    with pytest.raises(InputError, match="too few for statistics"):
        parse(log, paths)


def test_progress_counts_rows() -> None:
    progress = STAGE.progress
    assert progress is not None
    log = recorded(TOOL, "kld_good")

    assert [int(match["n"]) for match in progress.done.finditer(log)] == list(range(1, 9))
