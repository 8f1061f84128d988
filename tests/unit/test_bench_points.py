"""The statistics of the experiments on sensitivities: what docs/allocation.md's figures rest on."""

from __future__ import annotations

import pytest

from llamacpp_pipeline.stages.probe_lines import Measurement
from tests.bench.sensitivity_ablations import DEFAULT, mean_ratio
from tests.bench.sensitivity_mixes import bytes_at, identity
from tests.bench.sensitivity_points import Point, geometric_mean, ratio, summary


def measured(
    chunks: tuple[float, ...], *, p999: float = 1.0, same_top: float = 90.0
) -> Measurement:
    return Measurement(
        key="k",
        id="1",
        hold="native",
        tensors={"a.weight": "q4_K"},
        relative_error={},
        n_ctx=256,
        n_chunks=len(chunks),
        n_tokens=127 * len(chunks),
        kld=sum(chunks) / len(chunks),
        kld_stderr=0.0,
        kld_p999=p999,
        same_top=same_top,
        chunk_kld=chunks,
        seconds=1.0,
    )


def point(**mixes: Measurement) -> Point:
    return Point(model="demo", text="evaluation", size="Q4_K_M", bpw=5.0, mixes=mixes)


def test_a_ratio_has_the_error_of_its_pairs() -> None:
    exact = ratio((0.1, 0.2, 0.3), (0.2, 0.4, 0.6))
    assert exact.value == pytest.approx(0.5)
    assert exact.stderr == pytest.approx(0.0, abs=1e-12)
    # By hand: d = (1/2 - 1, 3/2 - 1), sum of squares 0.5, over n (n - 1) = 2: 0.5.
    moved = ratio((1.0, 3.0), (2.0, 2.0))
    assert moved.value == pytest.approx(1.0)
    assert moved.stderr == pytest.approx(0.5)


def test_the_mean_of_ratios_is_geometric() -> None:
    assert geometric_mean([0.25, 1.0]) == pytest.approx(0.5)


def test_a_summary_names_each_point_where_the_tail_is_worse() -> None:
    better = point(ours=measured((0.1, 0.1), p999=2.0, same_top=89.0), preset=measured((0.2, 0.2)))
    told = summary([better], of="ours", to="preset")
    assert "geometric mean 0.500 over 1 points, 0 above 1" in told
    assert "99.9 % KLD worse at 1, same top worse at 1" in told
    assert "demo, evaluation, Q4_K_M: 2.0000 against 1.0000" in told
    assert "89.00 against 90.00" in told


def test_a_tail_counts_only_where_the_mean_is_better_by_over_five_percent() -> None:
    close = point(ours=measured((0.19, 0.2), p999=2.0), preset=measured((0.2, 0.2)))
    told = summary([close], of="ours", to="preset")
    assert "of 0 points that are better by over 5 %" in told
    worse = point(ours=measured((0.3, 0.2)), preset=measured((0.2, 0.2)))
    assert "1 above 1" in summary([worse], of="ours", to="preset")


def test_sizes_of_one_model_share_the_errors_of_their_chunks() -> None:
    ours, base = measured((1.0, 3.0)), measured((2.0, 2.0))
    one = Point(
        model="demo", text="evaluation", size="Q4_K_M", bpw=5.0, mixes={"x": ours, DEFAULT: base}
    )
    other = Point(
        model="dense", text="evaluation", size="Q4_K_M", bpw=5.0, mixes={"x": ours, DEFAULT: base}
    )
    assert mean_ratio([one], "x").stderr == pytest.approx(0.5)
    assert mean_ratio([one, one], "x").stderr == pytest.approx(0.5)  # the same chunks again
    assert mean_ratio([one, other], "x").stderr == pytest.approx(0.5 / 2**0.5)


def test_a_mix_is_known_by_the_names_that_ggml_gives_types() -> None:
    assert identity({"b": "q4_k", "a": "iq3_s"}) == identity({"a": "iq3_s", "b": "q4_K"})


@pytest.mark.parametrize(("kind", "size"), [("q4_k", 144), ("q4_K", 144), ("iq4_nl", 144)])
def test_bytes_of_a_type(kind: str, size: int) -> None:
    assert bytes_at(256, kind) == size
