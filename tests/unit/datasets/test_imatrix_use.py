from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llamacpp_pipeline.datasets.imatrix_use import (
    PRIOR_ROWS,
    compare,
    h_diag,
    lacking,
    misfits,
    with_expert_prior,
)
from tests.unit.datasets.imatrix_sample import entry, expert_entry, imatrix

Q = entry("blk.2.attn_q.weight", [[1.0, 3.0]])
UP = entry("blk.10.ffn_up.weight", [[2.0, 4.0], [4.0, 2.0]])


def test_sensitivities_are_mean_squares_and_their_share_of_the_largest() -> None:
    empty = expert_entry("blk.1.ffn_up_exps.weight", [[], []], n_channels=2)

    rows = h_diag(imatrix(Q, UP, empty, entry("output.weight", [[1.0, 0.0]])))

    assert [(one.name, one.layer, one.raw, one.normalised) for one in rows] == [
        ("blk.2.attn_q.weight", 2, 5.0, 0.5),
        ("blk.10.ffn_up.weight", 10, 10.0, 1.0),
        ("output.weight", None, 0.5, 0.05),
    ]


def test_sensitivities_of_nothing_but_zeros() -> None:
    (row,) = h_diag(imatrix(entry("blk.0.a.weight", [[0.0, 0.0]])))

    assert (row.raw, row.normalised) == (0.0, 0.0)


def test_the_prior_fills_an_unseen_expert_and_moves_a_rare_one() -> None:
    often = [[1.0, 2.0]] * 1000
    routed = expert_entry("e", [often, [[10.0, 0.0]], []], n_channels=2)
    mean = routed.squares.sum(axis=0) / 1001

    got = with_expert_prior(routed)

    np.testing.assert_allclose(got[0], [1.0, 4.0], rtol=0.1)
    np.testing.assert_allclose(
        got[1], (np.array([100.0, 0.0]) + PRIOR_ROWS * mean) / (1 + PRIOR_ROWS)
    )
    np.testing.assert_allclose(got[2], mean)


def test_the_prior_leaves_a_dense_tensor_alone() -> None:
    np.testing.assert_array_equal(with_expert_prior(UP), [[10.0, 10.0]])


def test_a_prior_of_no_rows_is_the_plain_mean() -> None:
    routed = expert_entry("e", [[[2.0]], [[4.0]] * 2], n_channels=1)

    np.testing.assert_array_equal(with_expert_prior(routed, rows=0.0), [[4.0], [16.0]])


def test_there_is_no_prior_without_any_row() -> None:
    with pytest.raises(ValueError, match="e has no rows"):
        with_expert_prior(expert_entry("e", [[], []], n_channels=1))


def test_comparing_a_file_with_itself() -> None:
    got = compare(imatrix(Q, UP), imatrix(Q, UP))

    assert (got.only_first, got.only_second, got.other_shape) == ((), (), ())
    for one in got.tensors:
        assert one.gain == pytest.approx(1)
        assert one.mean_squares.l2_distance == 0
        assert one.means is not None


def test_comparing_files_names_what_only_one_of_them_has() -> None:
    other = entry(Q.name, [[1.0, 2.0, 3.0]])

    got = compare(imatrix(Q, UP), imatrix(other, entry("output.weight", [[1.0]])))

    assert got.only_first == (UP.name,)
    assert got.only_second == ("output.weight",)
    assert got.other_shape == (Q.name,)
    assert got.tensors == ()


def test_comparing_with_a_file_without_means() -> None:
    (got,) = compare(imatrix(UP), imatrix(replace(UP, values=None, squares=4 * UP.squares))).tensors

    assert got.means is None
    assert got.gain == pytest.approx(2)


def test_entries_that_do_not_fit_the_model_are_named() -> None:
    routed = expert_entry("blk.0.ffn_up_exps.weight", [[[1.0, 2.0]]] * 3, n_channels=2)
    shapes = {Q.name: (2, 1), UP.name: (4, 1), routed.name: (2, 3)}

    assert misfits(imatrix(Q, routed), shapes) == ()
    assert misfits(imatrix(UP, entry("old.weight", [[1.0]])), shapes) == (
        "blk.10.ffn_up.weight: 2 values, the model needs 4",
        "old.weight: the model has no such tensor",
    )


def test_weights_the_file_knows_nothing_about_are_named() -> None:
    unseen = expert_entry("blk.0.ffn_up_exps.weight", [[], []], n_channels=2)

    got = lacking(imatrix(Q, unseen), [Q.name, UP.name, unseen.name])

    assert got == (unseen.name, UP.name)
