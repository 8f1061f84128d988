"""Weights multiply sums and counts: exact, and what remains is their proportion."""

from __future__ import annotations

import numpy as np
import pytest

from llamacpp_pipeline.datasets.imatrix_file import Entry, Imatrix, merge
from llamacpp_pipeline.datasets.imatrix_weights import merge_weighted, smallest, weighted

NAME = "blk.0.ffn_up.weight"


def imatrix(seed: int, *, means: bool = True) -> Imatrix:
    x = np.random.default_rng(seed).normal(size=(5 + seed, 4))
    entry = Entry(
        name=NAME,
        squares=(x * x).sum(axis=0, keepdims=True),
        counts=np.array([len(x)], dtype=np.int64),
        values=x.sum(axis=0, keepdims=True) if means else None,
    )
    return Imatrix(entries={NAME: entry}, datasets=("a",), chunk_count=3, chunk_size=64)


def test_a_weight_is_as_if_the_text_had_been_read_so_often() -> None:
    first, second = imatrix(1), imatrix(2)

    once = merge_weighted([first, second], [3, 1]).entries[NAME]
    often = merge([first, first, first, second]).entries[NAME]

    np.testing.assert_allclose(once.squares, often.squares, rtol=1e-15)
    np.testing.assert_array_equal(once.counts, often.counts)
    assert once.values is not None
    assert often.values is not None
    np.testing.assert_allclose(once.values, often.values, rtol=1e-14)


def test_chunks_are_those_that_were_read() -> None:
    assert merge_weighted([imatrix(1), imatrix(2)], [3, 1]).chunk_count == 6


def test_equal_weights_are_no_weights() -> None:
    parts = [imatrix(1), imatrix(2)]

    merged = merge_weighted(parts, [7, 7])

    np.testing.assert_array_equal(merged.entries[NAME].squares, merge(parts).entries[NAME].squares)
    assert merged.entries[NAME].n_rows == 13


@pytest.mark.parametrize(
    ("given", "kept"), [((4, 2), (2, 1)), ((5,), (1,)), ((3, 2, 6), (3, 2, 6))]
)
def test_only_the_proportion_counts(given: tuple[int, ...], kept: tuple[int, ...]) -> None:
    assert smallest(given) == kept


def test_without_means_there_are_none_to_multiply() -> None:
    assert weighted(imatrix(1, means=False), 2).entries[NAME].values is None
