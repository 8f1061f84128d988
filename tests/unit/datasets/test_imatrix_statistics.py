from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from llamacpp_pipeline.datasets.imatrix_file import merge
from llamacpp_pipeline.datasets.imatrix_statistics import (
    FEW_ROWS,
    Activations,
    Difference,
    Distribution,
    difference,
    distribution,
    document,
    experts,
    gain,
    locate,
    normalized_entropy,
    profile,
    statistics,
)
from tests.unit.datasets.imatrix_sample import entry, expert_entry, imatrix

ROWS = [[1.0, -2.0, 3.0, 0.0], [2.0, -2.0, 5.0, 0.0]]


def test_distribution_of_one_to_four() -> None:
    got = distribution(np.array([1.0, 2.0, 3.0, 4.0]))

    assert got.mean == 2.5
    assert got.standard_deviation == pytest.approx(math.sqrt(1.25))
    assert got.skewness == pytest.approx(0)
    assert got.excess_kurtosis == pytest.approx(2.5625 / 1.25**2 - 3)


def test_skewness_of_one_large_channel() -> None:
    got = distribution(np.array([0.0, 0.0, 0.0, 4.0]))

    # m2 = 3, m3 = 6, m4 = 21
    assert got.skewness == pytest.approx(6 / 3**1.5)
    assert got.excess_kurtosis == pytest.approx(21 / 9 - 3)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e30])
def test_channels_that_are_all_equal_have_no_shape(value: float) -> None:
    got = distribution(np.full(7, value))

    assert (got.skewness, got.excess_kurtosis) == (None, None)
    assert got.mean == pytest.approx(value)
    assert got.standard_deviation == pytest.approx(0, abs=1e-12 * abs(value))


def test_nothing_is_known_of_no_channels() -> None:
    assert distribution(np.zeros(0)) == Distribution()


def test_difference_of_two_profiles() -> None:
    got = difference(np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 0.0]))

    assert got.l2_distance == pytest.approx(math.sqrt(4 + 9))
    assert got.cosine_similarity == pytest.approx(9 / math.sqrt(14 * 17))
    assert got.covariance == pytest.approx((-1 * (1 - 5 / 3) + 1 * (0 - 5 / 3)) / 3)
    assert got.pearson_correlation == pytest.approx(
        float(np.corrcoef([1.0, 2.0, 3.0], [1.0, 4.0, 0.0])[0, 1])
    )


def test_what_is_undefined_in_a_difference_is_none() -> None:
    zero, flat, other = np.zeros(3), np.full(3, 2.0), np.array([1.0, 2.0, 4.0])

    assert difference(zero, other).cosine_similarity is None
    assert difference(other, flat).pearson_correlation is None
    assert difference(other, flat).covariance == pytest.approx(0)
    assert difference(other, np.zeros(4)) == Difference()
    assert difference(np.zeros(0), np.zeros(0)) == Difference()


@pytest.mark.parametrize(
    ("energy", "expected"),
    [
        pytest.param([2.0, 2.0, 2.0], 1.0, id="even"),
        pytest.param([0.0, 5.0, 0.0], 0.0, id="one-channel-has-it-all"),
        pytest.param([3.0, 1.0], 0.8112781244591328, id="three-to-one"),
        pytest.param([3.0], None, id="one-channel"),
        pytest.param([0.0, 0.0], None, id="no-energy"),
    ],
)
def test_normalized_entropy(energy: list[float], expected: float | None) -> None:
    got = normalized_entropy(np.array(energy))

    assert got == (None if expected is None else pytest.approx(expected))


def test_gain_is_the_ratio_of_root_mean_squares() -> None:
    assert gain(np.array([16.0, 0.0]), np.array([2.0, 2.0])) == pytest.approx(2)
    assert gain(np.array([1.0]), np.array([0.0])) is None
    assert gain(np.array([1.0]), np.array([1.0, 1.0])) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("blk.12.attn_q.weight", (12, "attn_q.weight")),
        ("output.weight", (None, "output.weight")),
        ("blk.x.attn_q.weight", (None, "blk.x.attn_q.weight")),
        ("v.blk.1.attn_q.weight", (None, "v.blk.1.attn_q.weight")),
    ],
)
def test_where_a_tensor_is(name: str, expected: tuple[int | None, str]) -> None:
    assert locate(name) == expected


def test_a_tensor_by_itself() -> None:
    (got,) = statistics(imatrix(entry("blk.0.attn_q.weight", ROWS))).tensors

    own = got.activations
    assert (got.layer, got.previous, got.n_rows, got.has_means) == (0, None, 2, True)
    assert own.sum_mean_squares == pytest.approx(2.5 + 4 + 17)
    assert own.mean_square == pytest.approx(23.5 / 4)
    assert own.active_share == 0.75
    assert own.means.mean == pytest.approx((1.5 - 2 + 4) / 4)
    assert own.gain is None
    assert own.to_previous.means == Difference()


def test_experts_are_pooled_by_row_not_by_expert() -> None:
    dense = entry("blk.0.ffn_up.weight", ROWS)
    routed = expert_entry("blk.0.ffn_up_exps.weight", [ROWS[:1], [], ROWS[1:]], n_channels=4)

    got = statistics(imatrix(dense, routed)).tensors

    assert got[0].activations == got[1].activations
    assert got[0].experts is None
    assert experts(routed) == got[1].experts
    assert got[1].experts is not None
    assert (got[1].experts.n_rows, got[1].experts.n_unseen) == ((1, 0, 1), 1)
    assert got[1].experts.n_few == 3


def test_an_expert_has_few_rows_under_the_threshold() -> None:
    rows = [[1.0]]
    routed = expert_entry("e", [rows * (FEW_ROWS - 1), rows * FEW_ROWS], n_channels=1)

    got = experts(routed)

    assert got is not None
    assert (got.n_few, got.n_unseen) == (1, 0)


def test_a_tensor_without_rows_is_listed_and_has_no_numbers() -> None:
    empty = expert_entry("blk.1.ffn_up_exps.weight", [[], []], n_channels=2)

    got = statistics(imatrix(empty))

    assert got.tensors[0].activations == Activations()
    assert got.layers == ()


def test_the_previous_layer_is_the_nearest_lower_one_that_has_the_tensor() -> None:
    got = statistics(
        imatrix(
            entry("blk.3.attn_q.weight", ROWS),
            entry("blk.7.attn_q.weight", [[2 * x for x in row] for row in ROWS]),
            entry("blk.10.attn_q.weight", ROWS),
            entry("blk.4.ssm_out.weight", ROWS),
            entry("output.weight", ROWS),
        )
    )

    assert [(one.name, one.previous) for one in got.tensors] == [
        ("blk.3.attn_q.weight", None),
        ("blk.4.ssm_out.weight", None),
        ("blk.7.attn_q.weight", "blk.3.attn_q.weight"),
        ("blk.10.attn_q.weight", "blk.7.attn_q.weight"),
        ("output.weight", None),
    ]
    doubled = got.tensors[2].activations
    assert doubled.gain == pytest.approx(2)
    assert doubled.to_previous.means.cosine_similarity == pytest.approx(1)
    assert doubled.to_previous.means.l2_distance == pytest.approx(math.sqrt(1.5**2 + 4 + 16))
    assert [one.layer for one in got.layers] == [3, 4, 7, 10]


def test_a_tensor_of_another_width_is_not_compared() -> None:
    got = statistics(imatrix(entry("blk.0.a.weight", ROWS), entry("blk.1.a.weight", [[1.0, 2.0]])))

    assert got.tensors[1].previous is None
    assert got.layers[1].n_compared == 0


def test_a_layer_is_the_channels_of_its_tensors_one_after_the_other() -> None:
    q, up = entry("blk.1.attn_q.weight", ROWS), entry("blk.1.ffn_up.weight", [[7.0, 1.0]])
    before = entry("blk.0.attn_q.weight", ROWS)

    layer = statistics(imatrix(before, q, up)).layers[1]

    both = np.concatenate([profile(q).mean_squares, profile(up).mean_squares])
    assert layer.tensors == ("blk.1.attn_q.weight", "blk.1.ffn_up.weight")
    assert layer.activations.n_channels == 6
    assert layer.activations.mean_squares == distribution(both)
    assert layer.n_compared == 1
    assert layer.activations.gain == pytest.approx(1)
    assert layer.activations.to_previous.means.l2_distance == 0


def test_without_means_only_what_needs_them_is_missing() -> None:
    old = replace(entry("blk.0.a.weight", ROWS), values=None)
    new = entry("blk.1.a.weight", ROWS)

    first, second = statistics(imatrix(old, new)).tensors

    assert not first.has_means
    assert first.activations.means == Distribution()
    assert first.activations.sum_mean_squares == second.activations.sum_mean_squares
    assert second.activations.to_previous.means == Difference()
    assert second.activations.to_previous.mean_squares.l2_distance == 0


def test_a_layer_has_means_only_where_all_its_tensors_have() -> None:
    layer = statistics(
        imatrix(entry("blk.0.a.weight", ROWS), replace(entry("blk.0.b.weight", ROWS), values=None))
    ).layers[0]

    assert not layer.has_means
    assert layer.activations.means == Distribution()


def test_more_of_the_same_rows_change_nothing() -> None:
    once = imatrix(entry("blk.0.a.weight", ROWS), entry("blk.1.a.weight", ROWS[:1]))

    assert [one.activations for one in statistics(merge([once, once])).tensors] == [
        one.activations for one in statistics(once).tensors
    ]


def test_the_document_says_null_where_nothing_is_defined() -> None:
    got = document(statistics(imatrix(entry("output.weight", [[1.0]]))))

    (tensor,) = json.loads(json.dumps(got, allow_nan=False))["tensors"]
    assert tensor["layer"] is None
    assert tensor["normalized_entropy"] is None
    assert tensor["means"]["skewness"] is None
    assert tensor["to_previous"]["means"]["l2_distance"] is None
