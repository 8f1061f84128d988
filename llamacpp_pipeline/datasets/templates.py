"""Prompt templates: data, named and versioned."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, TypeAdapter

from llamacpp_pipeline.datasets.layouts import Question

TEMPLATES = Path(__file__).with_name("templates.yaml")
TemplateName = Literal["continuation", "question-answer", "subject-question-answer"]
PLACE = re.compile(r"\{(question|answer|subject)\}")


class Template(BaseModel):
    """How a question and one of its answers are written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    version: PositiveInt
    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)

    def filled_question(self, asked: Question) -> str:
        """The question as the model reads it."""
        return _filled(self.question, {"question": asked.question, "subject": asked.subject})

    def filled_answer(self, asked: Question, answer: str) -> str:
        """One of the answers as the model reads it."""
        return _filled(self.answer, {"answer": answer, "subject": asked.subject})


def _filled(text: str, values: Mapping[str, str]) -> str:
    return PLACE.sub(lambda place: values.get(place[1], place[0]), text)


@cache
def templates() -> Mapping[str, Template]:
    """Those that come with the program, by name."""
    read = yaml.safe_load(TEMPLATES.read_text(encoding="utf-8"))
    named = [{"name": name, **said} for name, said in read.items()]
    found = TypeAdapter(tuple[Template, ...]).validate_python(named)
    return {template.name: template for template in found}
