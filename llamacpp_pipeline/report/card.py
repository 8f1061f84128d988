"""README.md of the result folder: the card, from the results document and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from llamacpp_pipeline.report.card_view import view_of
from llamacpp_pipeline.report.markdown import Markdown
from llamacpp_pipeline.report.plots.gallery import shown
from llamacpp_pipeline.report.template import filled
from llamacpp_pipeline.results.document import ResultsDocument

FORMATS_OF_OTHERS = frozenset(
    {"transformers", "safetensors", "pytorch", "tf", "jax", "onnx", "gguf", "quantized", "imatrix"}
)
PREFIXES_OF_OTHERS = ("base_model:", "license:", "region:", "deploy:", "dataset:")


def render_card(
    document: ResultsDocument, *, pictures: Mapping[str, Markdown] | None = None
) -> str:
    """The card: front matter for the Hub, then Markdown; ends with one newline.

    `pictures` is what stands for each picture (plots/gallery.py: shown); default: none is there.

    Raises:
        InputError: where the publisher's own template cannot be filled.

    """
    view = view_of(document, pictures=pictures or shown(None))
    body = filled(view, own=document.publication.template)
    return f"{front_matter(document)}\n{body.strip()}\n"


def front_matter(document: ResultsDocument) -> str:
    """The Hub's metadata; only keys whose value is known."""
    text = yaml.safe_dump(metadata(document), sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{text}---\n"


def metadata(document: ResultsDocument) -> dict[str, Any]:
    """What the Hub wants to know of a quantized model."""
    publication, model = document.publication, document.model
    base = publication.base_model
    known: dict[str, Any] = {
        "base_model": base,
        "base_model_relation": None if base is None else "quantized",
        "license": publication.license,
        "language": [_line(language) for language in model.languages],
        "library_name": "gguf",
        "pipeline_tag": model.pipeline_tag,
        "quantized_by": publication.quantized_by,
        "tags": _tags(document),
    }
    return {
        key: _line(value) if isinstance(value, str) else value
        for key, value in known.items()
        if value
    }


def _tags(document: ResultsDocument) -> list[str]:
    own = ["gguf", "quantized", "llama.cpp"]
    if any(row.recipe is not None and row.recipe.imatrix for row in document.variants):
        own.append("imatrix")
    inherited = [
        _line(tag)
        for tag in document.model.tags
        if tag.lower() not in FORMATS_OF_OTHERS and not tag.startswith(PREFIXES_OF_OTHERS)
    ]
    return list(dict.fromkeys([*own, *inherited]))


def _line(text: str) -> str:
    return " ".join(text.split())
