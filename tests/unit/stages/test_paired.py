"""Paired comparisons from running means that were rounded as the tool rounds them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from llamacpp_pipeline.stages.kld import KldResult, parse
from llamacpp_pipeline.stages.paired import block_error, kld_difference, running_means, t_quantile
from llamacpp_pipeline.units import Estimate
from tests.unit.results.sample import kld_result
from tests.unit.stages.makers import recorded, write_logits


def measured(chunks: list[float], *, stderr: float = 0.0005, kept: bool = True) -> KldResult:
    sums = [sum(chunks[: at + 1]) / (at + 1) for at in range(len(chunks))]
    result = KldResult.model_validate(kld_result())
    return result.model_copy(
        update={
            "n_chunks": len(chunks),
            "mean_kld": Estimate(value=round(sums[-1], 6), stderr=stderr),
            "running_kld": " ".join(f"{mean:.5f}" for mean in sums) if kept else None,
        }
    )


def chunks(n: int, *, seed: int = 7) -> list[float]:
    """KLD of chunks that differ a lot between each other."""
    return [float(value) for value in 0.02 * np.random.default_rng(seed).lognormal(0, 0.6, n)]


def test_the_tools_rows_are_kept_as_printed(tmp_path: Path) -> None:
    paths = {"logits": write_logits(tmp_path / "logits.kld")}
    result = parse(recorded("llama-perplexity", "kld_good"), paths)

    assert result.running_kld == ("0.00379 0.00357 0.00339 0.00360 0.00363 0.00335 0.00318 0.00312")
    assert running_means(result)[-1] == pytest.approx(result.mean_kld.value, abs=5e-6)


def test_rows_that_did_not_all_arrive_are_not_made_up(tmp_path: Path) -> None:
    paths = {"logits": write_logits(tmp_path / "logits.kld")}
    log = recorded("llama-perplexity", "kld_good").replace("   5      48.0562 ±", "   5   ")

    assert parse(log, paths).running_kld is None


def test_a_small_difference_on_the_same_chunks_is_seen_where_the_errors_alone_hide_it() -> None:
    one = chunks(100)
    worse = [value * 1.02 for value in one]

    paired = kld_difference(measured(one, stderr=0.002), measured(worse, stderr=0.002))
    blind = kld_difference(
        measured(one, stderr=0.002, kept=False), measured(worse, stderr=0.002, kept=False)
    )
    assert paired.paired
    assert not paired.is_tie
    assert paired.value == pytest.approx(-0.02 * sum(one) / 100, abs=2e-6)
    assert not blind.paired
    assert blind.is_tie
    assert blind.stderr == pytest.approx(math.hypot(0.002, 0.002))


def test_the_error_is_that_of_independent_differences() -> None:
    differences = np.random.default_rng(3).normal(0, 0.01, 2000)
    running = [round(float(mean), 5) for mean in differences.cumsum() / np.arange(1, 2001)]
    stderr, n_blocks = block_error(running)

    assert n_blocks == 20
    assert stderr == pytest.approx(0.01 / math.sqrt(2000), rel=0.35)  # 20 blocks know it to 16 %


@pytest.mark.parametrize("n_chunks", [60, 600])
def test_rounding_alone_makes_an_error_of_15_millionths_however_many_chunks(n_chunks: int) -> None:
    found = []
    for seed in range(30):
        one = chunks(n_chunks, seed=seed)
        shifted = [value + 1e-4 + seed * 1e-6 for value in one]
        found.append(kld_difference(measured(one), measured(shifted)).stderr)
    mean_square = sum(value**2 for value in found) / len(found)
    assert math.sqrt(mean_square) == pytest.approx(1.5e-5, rel=0.15)


def test_equal_files_tie() -> None:
    same = kld_difference(measured(chunks(50)), measured(chunks(50)))
    assert (same.value, same.stderr, same.is_tie) == (0.0, 0.0, True)


def test_too_few_chunks_or_different_numbers_of_them_are_not_paired() -> None:
    assert not kld_difference(measured(chunks(4)), measured(chunks(4))).paired
    assert not kld_difference(measured(chunks(40)), measured(chunks(50))).paired


@pytest.mark.parametrize(("freedom", "quantile"), [(4, 2.776), (9, 2.262), (19, 2.093)])
def test_the_quantiles_of_students_t(freedom: int, quantile: float) -> None:
    assert t_quantile(freedom) == pytest.approx(quantile, abs=0.01)
