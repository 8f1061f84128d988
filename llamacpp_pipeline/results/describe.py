"""The form of results.json: its JSON schema, and a table of its fields for people."""

from __future__ import annotations

import json
from typing import Any

from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.documented import Documented

JSON_SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"
INTRODUCTION = """# results.json, field by field

Every run writes `results.json` into its result folder, beside the card (`README.md`) and
`manifest.json` (every command, input and output of every step). The card and the table on the
terminal are made from `results.json` alone: `llamacpp-pipeline card FOLDER`,
`llamacpp-pipeline results FOLDER`.

- `null`, or an empty list or object, means: not measured, or not known. A figure that was not
  measured is never 0, and no number is NaN or infinite.
- All figures of one document were measured under one set of conditions (`conditions`, and `speed`
  for tokens per second); a run whose records disagree is refused.
- `schema_version` is raised when a field changes its meaning or goes. New fields do not raise it.
- Paths are reduced to file names; the files themselves are known by their sha256.

The JSON schema is `docs/results.schema.json`. Both files are generated; after a change:

    llamacpp-pipeline results --schema json > docs/results.schema.json
    llamacpp-pipeline results --schema markdown > docs/results.md"""
FROM_STAGES = {
    "row": "The row: its number, or its id in the source.",
    "why": "Why it is no task; no text of the set is quoted.",
    "value": "The measured value.",
    "stderr": "Its standard error, in the same unit.",
    "ppl": "Perplexity of the file.",
    "reference_ppl": "Perplexity of the reference, from its 16-bit logits.",
    "ppl_correlation": "Correlation of both files' ln(PPL), percent.",
    "ln_ppl_ratio": "ln(PPL of the file / PPL of the reference).",
    "ppl_ratio": "PPL of the file / PPL of the reference.",
    "ppl_difference": "PPL of the file - PPL of the reference.",
    "mean_kld": "Mean KLD in nats.",
    "max_kld": "Largest KLD of one token.",
    "min_kld": "Smallest KLD; the 16-bit logits can make it slightly negative.",
    "kld_percentiles": 'Percentile ("99.9" to "0.1"; "50.0" is the median) to KLD.',
    "mean_delta_p": "Mean change in the probability of the text's token, percent.",
    "max_delta_p": "Largest gain in that probability, percent.",
    "min_delta_p": "Largest loss of that probability, percent.",
    "delta_p_percentiles": 'Percentile ("99.9" to "0.1"; "50.0" is the median) to Δp, percent.',
    "rms_delta_p": "Root mean square of Δp, percent.",
    "same_top_p": "How often both find the same token the most likely, percent.",
    "running_kld": "Mean KLD after each chunk, by spaces; null where rows were missing.",
    "test": "llama-bench's name of the test: pp512, tg128, pp1024+tg1024.",
    "tokens_per_second": "Mean and standard deviation over the repetitions.",
    "samples": "Tokens per second of each repetition.",
    "n_ctx": "Context length.",
    "n_chunks": "Chunks measured.",
    "name": "Its name.",
    "dtype": "How it is stored.",
    "n_values": "Weights counted.",
    "max_abs": "The largest magnitude.",
    "n_overflow": "Beyond F16's largest value.",
    "n_to_zero": "Not zero, but zero in F16.",
    "n_subnormal": "Subnormal in F16.",
    "n_nan": "Not a number.",
    "n_inf": "Infinite.",
    "n_channels": "Input channels.",
    "sum_mean_squares": "Σ E[x²] over the channels: the energy.",
    "mean_square": "The same over the number of channels: H_diag.",
    "normalized_entropy": "Of the energy's distribution over the channels; 1: all carry the same.",
    "active_share": "Share of the channels with E[x²] above 1e-5.",
    "has_means": "Whether the signed means E[x] are known.",
    "mean_squares": "Of E[x²], over the channels.",
    "means": "Of E[x], over the channels; null where the means are not known.",
    "mean": "Mean over the channels.",
    "standard_deviation": "Standard deviation over the channels.",
    "skewness": "Skewness over the channels.",
    "excess_kurtosis": "Excess kurtosis over the channels: 0 for a normal distribution.",
    "gain": "Ratio of the root mean squares, to the previous layer's same tensor.",
    "to_previous": "Against the same tensor of the nearest lower layer that has it.",
    "l2_distance": "Euclidean distance of the two profiles.",
    "cosine_similarity": "Cosine similarity of the two profiles.",
    "pearson_correlation": "Pearson correlation of the two profiles.",
    "covariance": "Covariance of the two profiles.",
    "layer": "The layer; null outside blocks.",
    "previous": "The tensor that it is compared with.",
    "n_rows": "Rows (tokens) counted; a text's weight multiplies them.",
    "experts": "How the rows went to the experts; null for a dense tensor.",
    "n_experts": "Experts.",
    "n_unseen": "Experts without a row.",
    "n_few": "Experts with fewer than `few_rows` rows, those without included.",
    "fewest_rows": "Rows of the expert that saw the fewest.",
    "n_tensors": "Tensors.",
    "n_compared": "Tensors that an earlier layer has too.",
    "hostless_name": "CPU and number of cores; never the host's name.",
    "system": "Operating system.",
    "n_cores": "Cores.",
    "memory_bytes": "Memory.",
}


def schema_json() -> str:
    """The JSON schema of results.json, as it is kept in docs/results.schema.json."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def schema() -> dict[str, Any]:
    """The JSON schema; every field has a description."""
    generated = ResultsDocument.model_json_schema(mode="serialization")
    for definition in _definitions(generated).values():
        for name, field in definition.get("properties", {}).items():
            if "description" not in field:
                field["description"] = _description(definition["title"], name)
    return {"$schema": JSON_SCHEMA_DIALECT, **generated}


def fields_markdown() -> str:
    """docs/results.md: one table per object of results.json with field, type, meaning."""
    generated = schema()
    parts = [INTRODUCTION]
    parts += [_section(name, definition) for name, definition in _definitions(generated).items()]
    return "\n\n".join(parts) + "\n"


def _description(title: str, name: str) -> str:
    # The schema of a field that is another object has lost the description of the field.
    documented = {kind.__name__: kind for kind in Documented.__subclasses__()}
    if title in documented:
        return documented[title].model_fields[name].description or ""
    return FROM_STAGES[name]


def _definitions(generated: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {generated["title"]: generated, **generated.get("$defs", {})}


def _section(name: str, definition: dict[str, Any]) -> str:
    about = " ".join(definition.get("description", "").split())
    rows = [
        f"| `{field}` | {_type(form)} | {form['description'].replace('|', chr(92) + '|')} |"
        for field, form in definition["properties"].items()
    ]
    table = "\n".join(["| field | type | meaning |", "|---|---|---|", *rows])
    return "\n\n".join(part for part in (f"### {name}", about, table) if part)


def _type(form: dict[str, Any]) -> str:
    if "$ref" in form:
        name = form["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in form:
        return " or ".join(_type(option) for option in form["anyOf"])
    if "enum" in form or "const" in form:
        return " or ".join(f"`{value}`" for value in form.get("enum", [form.get("const")]))
    if form.get("type") == "array":
        return f"list of {_type(form['items'])}"
    if form.get("type") == "object":
        return f"object of {_type(form['additionalProperties'])}"
    return str(form["type"])
