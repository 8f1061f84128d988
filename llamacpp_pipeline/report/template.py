"""Filling the card's templates: escaping, filters, and a template of the publisher's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from jinja2 import (
    ChoiceLoader,
    DictLoader,
    FileSystemLoader,
    StrictUndefined,
    TemplateError,
    TemplateSyntaxError,
    Undefined,
)
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llamacpp_pipeline.errors import InputError
from llamacpp_pipeline.report.figures import count, digest
from llamacpp_pipeline.report.markdown import Markdown, code, escaped, hub_link
from llamacpp_pipeline.results.conditions import FileRef

TEMPLATES = Path(__file__).parent / "templates"
BASE = "card.md.j2"
OWN = "card.template"  # the publisher's, by the name of its key in the configuration
FENCE = re.compile(r"^ {0,3}(?P<fence>`{3,}|~{3,})(?P<rest>[^`]*)$")


def filled(view: Mapping[str, object], *, own: str | None = None) -> str:
    """The Markdown of a view: by the base template, or by the publisher's own.

    Raises:
        InputError: where the publisher's own cannot be filled, naming the line.

    """
    if own is None:
        return tidied(_environment(None).get_template(BASE).render(view))
    try:
        return tidied(_environment(own).get_template(OWN).render(view))
    except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
        raise _broken(error) from error


def refuse_broken_template(own: str) -> None:
    """A template must be one that Jinja can read; what it prints is seen only with results.

    Raises:
        InputError: naming the line and what is wrong with it.

    """
    try:
        _environment(own).get_template(OWN)
    except TemplateError as error:
        raise _broken(error) from error


def finalized(value: object) -> str:
    """What the template prints: text of others escaped, Markdown as it is, nothing else."""
    if isinstance(value, Markdown):
        return value
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, Undefined):
        return str(value)  # raises, naming what is not there
    message = f"the card's template prints {value!r}, which has no written form"
    raise TypeError(message)


def tidied(text: str) -> str:
    """One blank line where there are several, but for those in fenced code."""
    lines: list[str] = []
    fence = ""
    for line in text.strip("\n").splitlines():
        if fence or line.strip() or (lines and lines[-1]):
            lines.append(line if fence or line.strip() else "")
        fence = _fence_after(line, fence)
    return "\n".join(lines)


def _fence_after(line: str, fence: str) -> str:
    """The fence of the code block that the next line is in; empty outside."""
    found = FENCE.match(line)
    if found is None:
        return fence
    if not fence:
        return found["fence"]
    closes = found["fence"].startswith(fence) and not found["rest"].strip()
    return "" if closes else fence


@cache
def _environment(own: str | None) -> ImmutableSandboxedEnvironment:
    ours = FileSystemLoader(TEMPLATES)
    environment = ImmutableSandboxedEnvironment(
        loader=ours if own is None else ChoiceLoader([DictLoader({OWN: own}), ours]),
        autoescape=False,  # Markdown, not HTML: `finalized` escapes every value
        undefined=StrictUndefined,
        finalize=finalized,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = code
    environment.filters["hub_link"] = hub_link
    environment.filters["digest"] = digest
    environment.filters["count"] = count
    environment.filters["text_ref"] = text_ref
    return environment


def text_ref(file: FileRef) -> Markdown:
    """A given file with where it came from and what it is."""
    source = ""
    if file.source is not None:
        repo, _, commit = file.source.partition("@")
        source = f" of {escaped(repo)} at commit {code(digest(commit))}"
    return Markdown(f"{code(file.label)}{source} (sha256 {code(digest(file.sha256))})")


def _broken(error: Exception) -> InputError:
    at = f", line {error.lineno}" if isinstance(error, TemplateSyntaxError) else ""
    return InputError(
        f"{OWN}{at}: cannot be filled ({error})",
        hint='begin it with {% extends "card.md.j2" %} and replace only the blocks you mean;'
        " docs/card.md lists the blocks and the values",
    )
