from __future__ import annotations

import pytest

from llamacpp_pipeline.demo import figures
from llamacpp_pipeline.errors import UnreadableOutputError

COMPARED = """\
====== Perplexity statistics ======
Mean PPL(Q)                   :  21.500000 ±   0.300000
Mean PPL(base)                :  21.000000 ±   0.300000
====== KL divergence statistics ======
Mean    KLD:   0.012345 ±   0.000100
Maximum KLD:   1.234567
"""


def test_the_figures_are_read_from_what_the_tool_prints() -> None:
    assert figures.number(figures.PPL_Q, COMPARED) == 21.5
    assert figures.number(figures.MEAN_KLD, COMPARED) == 0.012345
    estimate = "[1]20.0,\nFinal estimate: PPL = 21.0000 +/- 0.30000\n"
    assert figures.number(figures.PPL, estimate) == 21.0
    prefixed = "4.16.654.374 I Final estimate: PPL = 35.1008 +/- 0.57807\n"
    assert figures.number(figures.PPL, prefixed) == 35.1008


def test_a_missing_figure_is_an_error_and_not_a_number() -> None:
    with pytest.raises(UnreadableOutputError, match="llama-perplexity ended without"):
        figures.number(figures.MEAN_KLD, "Mean    KLD:   nan ± nan\n")


@pytest.mark.parametrize(
    ("ratio", "klds", "good"),
    [
        (12.0, [0.1, 0.2, 0.3], True),
        (9.9, [0.1, 0.2, 0.3], False),
        (12.0, [0.1, 0.3, 0.2], False),
        (12.0, [0.1, 0.1], False),
    ],
)
def test_the_model_is_good_if_it_learned_and_quantization_hurts_more_and_more(
    *, ratio: float, klds: list[float], good: bool
) -> None:
    assert figures.is_good(ratio, klds) is good
