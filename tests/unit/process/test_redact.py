from __future__ import annotations

import pytest

from llamacpp_pipeline.process.redact import Redactor, redact


@pytest.mark.parametrize(
    ("secrets", "pieces", "expected"),
    [
        pytest.param(("hf_abc",), ["x hf_abc y"], "x *** y", id="whole"),
        pytest.param(("hf_abc",), ["x hf", "_a", "bc y"], "x *** y", id="split"),
        pytest.param(("hf_abc",), ["hf_abhf_abc"], "hf_ab***", id="false-start"),
        pytest.param(("hf_abc",), ["x hf_ab"], "x hf_ab", id="cut-short"),
        pytest.param(("aba",), ["xaba"], "x***", id="end-is-a-beginning"),
        pytest.param(("aba",), ["xab", "ab", "a"], "x***ba", id="overlap"),
        pytest.param(("abc", "abcdef"), ["abc", "def"], "***", id="longer-wins"),
        pytest.param(("abc", "abcdef"), ["abc", "dex"], "***dex", id="shorter-stays"),
        pytest.param(("abc",), ["abc", "abc", "ab", "c"], "*********", id="again-and-again"),
        pytest.param((), ["anything"], "anything", id="no-secrets"),
        pytest.param(("",), ["anything"], "anything", id="empty-secret"),
        pytest.param(("t\u00f6ken",), ["my t\u00f6k", "en"], "my ***", id="not-ascii"),
    ],
)
def test_a_stream_shows_no_secret(
    secrets: tuple[str, ...], pieces: list[str], expected: str
) -> None:
    redactor = Redactor(secrets)
    shown = b"".join([*(redactor.feed(piece.encode()) for piece in pieces), redactor.flush()])

    assert shown.decode() == expected


@pytest.mark.parametrize("size", range(1, 9))
def test_however_it_is_cut(size: int) -> None:
    text = b"one hf_secret two hf_secre three hf_secrethf_secret"
    redactor = Redactor(("hf_secret",))
    pieces = [redactor.feed(text[i : i + size]) for i in range(0, len(text), size)]

    assert b"".join((*pieces, redactor.flush())) == b"one *** two hf_secre three ******"


def test_text_that_can_be_no_secret_is_not_held_back() -> None:
    assert Redactor(("hf_secret",)).feed(b"progress 12% ") == b"progress 12% "


def test_in_a_text_the_longest_goes_first() -> None:
    assert redact("abcdef abc", ("abc", "abcdef")) == "*** ***"
