"""Text of others stays text."""

from __future__ import annotations

import pytest

from llamacpp_pipeline.report.markdown import (
    Markdown,
    cell_code,
    code,
    code_block,
    escaped,
    hub_link,
    table,
)
from llamacpp_pipeline.report.template import finalized


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("Q4_K_M", "Q4_K_M"),
        ("a|b", r"a\|b"),
        ("<script>x</script>", r"\<script\>x\</script\>"),
        ("[here](http://x.y)", r"\[here\](http&#58;//x.y)"),
        ("see https://x.y and www.x.y", "see https&#58;//x.y and www&#46;x.y"),
        ("me@x.org", "me&#64;x.org"),
        ("*a* _b_ ~c~ `d`", r"\*a\* \_b\_ \~c\~ \`d\`"),
        ("&lt;b&gt;", "&amp;lt;b&amp;gt;"),
        ("![x](y)", r"\!\[x\](y)"),
        ("two\n\nlines\u2028here", "two lines here"),
        ("# head", r"\# head"),
        ("- item", r"\- item"),
        ("1. item", r"1\. item"),
        ("3.5-9B", "3.5-9B"),
        ("\\", "\\\\"),
        ("$x$", r"\$x\$"),
    ],
)
def test_nothing_in_a_text_is_markup(text: str, markdown: str) -> None:
    assert escaped(text) == markdown


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("x", "`x`"),
        ("a`b", "`` a`b ``"),
        ("``", "``` `` ```"),
        ("a\nb", "`a b`"),
        ("", ""),
    ],
)
def test_a_code_span_cannot_be_left(text: str, span: str) -> None:
    assert code(text) == span


def test_a_bar_in_a_code_cell_does_not_end_the_cell() -> None:
    assert cell_code("(a|b)") == r"`(a\|b)`"


def test_a_code_block_cannot_be_left() -> None:
    assert code_block("x\n```\ny", "bash") == "````bash\nx\n```\ny\n````"
    assert code_block("x") == "```\nx\n```"


@pytest.mark.parametrize(
    ("repo", "link"),
    [
        ("org/Name-1.5", "[org/Name-1.5](https://huggingface.co/org/Name-1.5)"),
        ("org/x) [y](z", r"org/x) \[y\](z"),
        ("../x", "../x"),
        ("only", "only"),
    ],
)
def test_only_a_hub_id_becomes_a_link(repo: str, link: str) -> None:
    assert hub_link(repo) == link


def test_a_table_puts_numbers_to_the_right() -> None:
    assert table(["a", "b"], [["x", "1"]]) == "| a | b |\n| --- | ---: |\n| x | 1 |"


def test_the_template_prints_escaped_text_markdown_and_whole_numbers_only() -> None:
    assert finalized("a|b") == r"a\|b"
    assert finalized(Markdown("a|b")) == "a|b"
    assert finalized(3) == "3"
    for value in (None, 1.5, True):
        with pytest.raises(TypeError, match="no written form"):
            finalized(value)
