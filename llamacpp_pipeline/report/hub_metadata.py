"""What the Hub reads of a card: its front matter, with the evaluation results as a model index."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from llamacpp_pipeline.report.hub_licenses import LICENSES, OTHER
from llamacpp_pipeline.report.markdown import HUB_ID
from llamacpp_pipeline.results.conditions import Conditions
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.table import VariantRow
from llamacpp_pipeline.results.task_scores import TaskConditions

FORMATS_OF_OTHERS = frozenset(
    {"transformers", "safetensors", "pytorch", "tf", "jax", "onnx", "gguf", "quantized", "imatrix"}
)
PREFIXES_OF_OTHERS = ("base_model:", "license:", "region:", "deploy:", "dataset:")
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*|code|multilingual")
PIPELINE_TAG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
TASK = "text-generation"
TASK_NAME = "Text Generation"


def front_matter(document: ResultsDocument) -> str:
    """The metadata as YAML between its two lines of dashes; only keys whose value is known."""
    return f"---\n{metadata(document).to_yaml()}\n---\n"


def metadata(document: ResultsDocument) -> ModelCardData:
    """What the Hub wants to know of a quantized model, in forms that it takes."""
    publication, model = document.publication, document.model
    base = publication.base_model
    known = base if base is not None and HUB_ID.fullmatch(base) else None
    results = evaluations(document)
    languages = [language for language in model.languages if LANGUAGE.fullmatch(language)]
    return ModelCardData(
        base_model=known,
        base_model_relation=None if known is None else "quantized",
        **_license(publication.license),
        language=languages or None,
        library_name="gguf",
        pipeline_tag=model.pipeline_tag
        if model.pipeline_tag is not None and PIPELINE_TAG.fullmatch(model.pipeline_tag)
        else None,
        quantized_by=None if publication.quantized_by is None else _line(publication.quantized_by),
        tags=_tags(document),
        model_name=_line(publication.title) if results else None,
        eval_results=results or None,
    )


def evaluations(document: ResultsDocument) -> list[EvalResult]:
    """PPL, mean KLD and scores of each of our files, as the model index has them."""
    under = document.conditions
    found = []
    for row in (document.reference, *document.variants):
        if row.ppl is not None:
            found.append(_result(under, row, "perplexity", row.ppl.value))
        if row.quality is not None:
            found.append(_result(under, row, "mean KLD", row.quality.mean_kld.value))
    sets = () if document.tasks is None else document.tasks.sets
    return [*found, *(result for each in sets for result in _scores(document, each))]


def _scores(document: ResultsDocument, each: TaskConditions) -> Iterator[EvalResult]:
    repo, _, commit = (each.datasets[0] if len(each.datasets) == 1 else "").partition("@")
    for row in (document.reference, *document.variants):
        for score in row.tasks:
            if score.set == each.name:
                yield EvalResult(
                    task_type=TASK,
                    task_name=TASK_NAME,
                    dataset_type=repo if HUB_ID.fullmatch(repo) else _line(each.name),
                    dataset_name=_line(each.title),
                    dataset_revision=commit or None,
                    dataset_args={"n_tasks": each.n_tasks, "seed": each.seed},
                    metric_type="accuracy",
                    metric_name=f"accuracy of {_line(row.label)}, percent",
                    metric_value=score.score.value,
                )


def _result(under: Conditions, row: VariantRow, metric: str, value: float) -> EvalResult:
    repo, _, commit = (under.corpus.source or "").partition("@")
    cut = {"n_ctx": under.n_ctx, "n_chunks": under.n_chunks, "sha256": under.corpus.sha256}
    return EvalResult(
        task_type=TASK,
        task_name=TASK_NAME,
        dataset_type=repo if HUB_ID.fullmatch(repo) else _line(under.corpus.label),
        dataset_name=_line(under.corpus.label),
        dataset_revision=commit or None,
        dataset_args=cut,
        metric_type=metric.lower().replace(" ", "_"),
        metric_name=f"{metric} of {_line(row.label)}",
        metric_value=value,
    )


def _license(name: str | None) -> dict[str, Any]:
    """The Hub takes only names that it knows, and `other` with the name beside it."""
    if name is None or not name.strip():
        return {}
    known = _line(name).lower()
    if known in LICENSES:
        return {"license": known}
    return {"license": OTHER, "license_name": _line(name)}


def _tags(document: ResultsDocument) -> list[str]:
    own = ["gguf", "quantized", "llama.cpp"]
    if any(row.recipe is not None and row.recipe.imatrix for row in document.variants):
        own.append("imatrix")
    inherited = [
        _line(tag)
        for tag in document.model.tags
        if tag.lower() not in FORMATS_OF_OTHERS and not tag.startswith(PREFIXES_OF_OTHERS)
    ]
    return list(dict.fromkeys([*own, *filter(None, inherited)]))


def _line(text: str) -> str:
    return " ".join(text.split())
