"""Texts that stand in columns of rows: the step that makes plain text of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llamacpp_pipeline.config.corpus import CorpusConfig
from llamacpp_pipeline.datasets.registry import known_texts
from llamacpp_pipeline.plan.step import Input, OutputRef, Step
from llamacpp_pipeline.stages.text import SOURCE, TextParams

if TYPE_CHECKING:
    from llamacpp_pipeline.plan.expansion import Expansion

TEXT = "text"
FETCH = "fetch-"


def text_params(corpus: CorpusConfig) -> TextParams | None:
    """How a text is taken out of its file; None where the file is the text."""
    if corpus.container is None:
        return None
    known = None if corpus.dataset is None else known_texts()[corpus.dataset].column
    return TextParams(container=corpus.container, column=corpus.column or known)


def text_key(fetch: str) -> str:
    """The key of the step, from the key of the step that would fetch the file."""
    return f"{TEXT}/{fetch.removeprefix(FETCH)}"


def as_text(file: Input, fetch: str, rows: TextParams | None) -> Input:
    """The text itself: the file, or what is made of it."""
    return file if rows is None else OutputRef(step=text_key(fetch), output="text")


def text_step(plan: Expansion, file: Input, fetch: str, rows: TextParams) -> Step:
    """The step that makes the text."""
    return plan.step(text_key(fetch), params=rows, inputs={SOURCE: file})
