"""The three forms that llama-perplexity reads, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from llamacpp_pipeline.datasets import choice_file, hellaswag_text, winogrande_csv
from llamacpp_pipeline.datasets.task import Form, Task


@dataclass(frozen=True, kw_only=True)
class FileForm:
    """How tasks become a file."""

    refusal: Callable[[Task], str | None]
    encode: Callable[[Sequence[Task]], bytes]


FORMS: Mapping[Form, FileForm] = {
    "hellaswag": FileForm(refusal=hellaswag_text.refusal, encode=hellaswag_text.encode),
    "winogrande": FileForm(refusal=winogrande_csv.refusal, encode=winogrande_csv.encode),
    "multiple-choice": FileForm(refusal=choice_file.refusal, encode=choice_file.encode),
}
