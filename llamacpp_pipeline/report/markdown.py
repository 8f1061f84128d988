"""Text of others in Markdown: nothing in it can become a link, a table cell or HTML."""

from __future__ import annotations

import re
import shlex

SPECIAL = re.compile(r"[\\`*\[\]<>|~$!]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
AUTOLINK = re.compile(r"(?i):(?=//)|(?<=mailto):|(?<=xmpp):|(?<=www)\.|(?<=[^\s])@(?=[^\s])")
BLOCK_START = re.compile(r"^(?:[#+=-]|(?P<number>\d+)(?P<mark>[.)])(?=\s|$))")
BACKTICKS = re.compile("`+")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]+")


class Markdown(str):
    """Text that is already Markdown."""

    __slots__ = ()


def escaped(text: str) -> Markdown:
    """`text` as one line that reads as it is written, anywhere in Markdown."""
    line = CONTROL.sub(" ", text).strip().replace("&", "&amp;")
    line = SPECIAL.sub(lambda match: f"\\{match[0]}", line)
    line = AUTOLINK.sub(lambda match: f"&#{ord(match[0])};", line)
    return Markdown(BLOCK_START.sub(_not_a_block, line))


def code(text: str) -> Markdown:
    """`text` as a code span, in a table too: a fence longer than any run of backticks in it."""
    line = CONTROL.sub(" ", text).strip()
    if not line:
        return Markdown("")
    fence = _fence(line, shortest=1)
    padding = " " if "`" in line else ""
    return Markdown(f"{fence}{padding}{line}{padding}{fence}")


def cell_code(text: str) -> Markdown:
    """A code span inside a table, where a bar must be escaped even in code."""
    return Markdown(code(text).replace("|", "\\|"))


def code_block(text: str, language: str = "") -> Markdown:
    """`text` as a fenced block."""
    body = text.replace("\r", "").strip("\n")
    fence = _fence(body, shortest=3)
    return Markdown(f"{fence}{language}\n{body}\n{fence}")


def hub_link(repo: str) -> Markdown:
    """A model of the Hub as a link; anything that is no Hub id as plain text."""
    if HUB_ID.fullmatch(repo) is None:
        return escaped(repo)
    return Markdown(f"[{escaped(repo)}](https://huggingface.co/{repo})")


def shell(argv: tuple[str, ...]) -> str:
    """A command as a person would type it."""
    return shlex.join(argv)


def table(head: list[str], rows: list[list[str]], *, text_columns: int = 1) -> Markdown:
    """A Markdown table of cells that are Markdown already: text first, then numbers."""
    marks = ["---" if index < text_columns else "---:" for index in range(len(head))]
    lines = [head, marks, *rows]
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def _fence(text: str, *, shortest: int) -> str:
    longest = max((len(run) for run in BACKTICKS.findall(text)), default=0)
    return "`" * max(shortest, longest + 1)


def _not_a_block(match: re.Match[str]) -> str:
    if match["number"] is None:
        return f"\\{match[0]}"
    return f"{match['number']}\\{match['mark']}"
