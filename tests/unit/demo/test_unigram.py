from __future__ import annotations

import pytest

from llamacpp_pipeline.demo.unigram import scored_tokens, unigram_ppl


def test_equal_frequencies_give_the_size_of_the_vocabulary() -> None:
    assert unigram_ppl([0, 1, 2, 3], [3, 1, 1], n_vocab=4) == pytest.approx(4)


def test_a_token_never_seen_counts_as_seen_once_less() -> None:
    assert unigram_ppl([0, 0, 0], [1], n_vocab=2) == pytest.approx(5)


def test_the_second_half_of_each_whole_chunk_is_scored_but_for_its_first_token() -> None:
    assert scored_tokens(range(20), n_ctx=8) == [5, 6, 7, 13, 14, 15]
