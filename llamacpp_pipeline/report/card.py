"""README.md of the result folder: the card, from the results document and nothing else."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from llamacpp_pipeline.report.activations import EMPTY, layer_table
from llamacpp_pipeline.report.card_tables import (
    command_block,
    override_table,
    percentile_tables,
    quality_table,
    speed_table,
    worst_weights,
)
from llamacpp_pipeline.report.figures import count, digest, estimate
from llamacpp_pipeline.report.markdown import Markdown, code, escaped, hub_link
from llamacpp_pipeline.report.terminal import speed_machine
from llamacpp_pipeline.results.conditions import FileRef
from llamacpp_pipeline.results.document import ResultsDocument

COMMIT = re.compile(r"[0-9a-f]{7,40}")  # a user's own checkout may have none
TEMPLATES = Path(__file__).parent / "templates"
FORMATS_OF_OTHERS = frozenset(
    {"transformers", "safetensors", "pytorch", "tf", "jax", "onnx", "gguf", "quantized", "imatrix"}
)
PREFIXES_OF_OTHERS = ("base_model:", "license:", "region:", "deploy:", "dataset:")


def render_card(document: ResultsDocument, *, profile: str | None = None) -> str:
    """The card: front matter for the Hub, then Markdown; ends with one newline.

    `profile` is the file name of the activations' picture, where one was drawn.
    """
    view = {**_view(document), "profile": Markdown(profile or "")}
    body = _environment().get_template("card.md.j2").render(view)
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


def finalized(value: object) -> str:
    """What the template prints: text of others escaped, Markdown as it is, nothing else."""
    if isinstance(value, Markdown):
        return value
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    message = f"the card's template prints {value!r}, which has no written form"
    raise TypeError(message)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=False,  # noqa: S701 - Markdown, not HTML: `finalized` escapes every value
        undefined=StrictUndefined,
        finalize=finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = code
    environment.filters["hub_link"] = hub_link
    environment.filters["digest"] = digest
    environment.filters["count"] = count
    environment.filters["text_ref"] = _file_ref
    return environment


def _view(document: ResultsDocument) -> dict[str, Any]:
    floor, commit = document.noise_floor, document.conditions.commit
    notes = document.publication.notes
    return {
        "document": document,
        "commit": digest(commit) if COMMIT.fullmatch(commit) else "",
        "quality": quality_table(document),
        "percentiles": percentile_tables(document),
        "speed": speed_table(document),
        "repeated": document.speed is not None and document.speed.repetitions > 1,
        "speed_machine": speed_machine(document),
        "overrides": override_table(document),
        "fallbacks": _fallbacks(document),
        "worst_weights": worst_weights(document),
        "max_abs": "" if document.weights is None else f"{document.weights.max_abs:.6g}",
        "noise_floor": "" if floor is None else estimate(floor.mean_kld, digits=6),
        "commands": command_block(document),
        "activations": EMPTY if document.imatrix is None else layer_table(document.imatrix),
        "notes": Markdown("" if notes is None else notes.strip()),
        "has_quality": any(row.quality is not None for row in document.variants),
    }


def _fallbacks(document: ResultsDocument) -> list[str]:
    return [row.label for row in document.variants if row.recipe and row.recipe.fallbacks]


def _file_ref(file: FileRef) -> Markdown:
    source = ""
    if file.source is not None:
        repo, _, commit = file.source.partition("@")
        source = f" of {escaped(repo)} at commit {code(digest(commit))}"
    return Markdown(f"{code(file.label)}{source} (sha256 {code(digest(file.sha256))})")


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
