"""The figures of published cards, cell by cell (published/*.json), as results documents.

What such a card does not say (percentiles, probabilities) is made up: the tables that are
compared do not print it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.table import VariantRow
from llamacpp_pipeline.stages.bench import BenchRow
from llamacpp_pipeline.stages.kld import KldResult
from llamacpp_pipeline.units import Estimate
from tests.unit.results.sample import NOBODY, digest, kld_result, sample_run

FOLDER = Path(__file__).parent / "published"
CARDS = ("target-bpw-qwen3.5-9b", "target-bpw-qwen3.6-35b-a3b")
# Weights, to the digits that the sizes in llama-bench's column leave open.
N_ELEMENTS = {"Qwen3.5-9B": 8_953_800_000, "Qwen3.6-35B-A3B": 34_660_000_000}
OTHERS = ("-naive", "-bartowski", "-unsloth")
BELOW_ROUNDING = 4e-7


def figures(card: str) -> dict[str, Any]:
    found = json.loads((FOLDER / f"{card}.json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def quality_document(card: str, *, shift: float = 0.0) -> ResultsDocument:
    """`shift` moves every figure by less than its last digit."""
    published = figures(card)
    sample = results_document(sample_run(), redactor=NOBODY)
    rows = [_row(sample, published["model"], cells, shift=shift) for cells in published["quality"]]
    speeds = {
        row.file.removesuffix(".gguf"): _speeds(published, row.file.removesuffix(".gguf"))
        for row in rows
    }
    rows = [
        row.model_copy(update={"speed": speeds[row.file.removesuffix(".gguf")]}) for row in rows
    ]
    return _with(sample, published, rows)


def speed_document(card: str) -> ResultsDocument:
    """Another document for the speeds: the cards name their files otherwise there."""
    published = figures(card)
    sample = results_document(sample_run(), redactor=NOBODY)
    names = list(dict.fromkeys(cells[0] for cells in published["speed"]))
    sizes = {cells[0]: float(cells[1].removesuffix(" GiB")) for cells in published["speed"]}
    rows = []
    for name in names:
        file_bytes = round(sizes[name] * 2**30)
        size = sample.variants[0].size.model_copy(
            update={
                "tensor_bytes": file_bytes,
                "file_bytes": file_bytes,
                "n_elements": N_ELEMENTS[published["model"]],
            }
        )
        kept = {"label": name, "file": f"{name}.gguf", "size": size, "quality": None}
        kept["speed"] = _speeds(published, name)
        rows.append(sample.variants[0].model_copy(update=kept))
    first = published["speed"][0]
    assert sample.speed is not None
    speed = sample.speed.model_copy(update={"backends": first[3], "n_threads": int(first[4])})
    reference = sample.reference.model_copy(update={"speed": ()})
    return _with(sample, published, [reference, *rows]).model_copy(update={"speed": speed})


def _with(
    sample: ResultsDocument, published: dict[str, Any], rows: list[VariantRow]
) -> ResultsDocument:
    reference, *others = rows
    return sample.model_copy(
        update={
            "name": published["model"],
            "reference": reference,
            "variants": tuple(row for row in others if row.kind == "variant"),
            "references": tuple(row for row in others if row.kind == "other"),
            "comparisons": (),
        }
    )


def _row(sample: ResultsDocument, model: str, cells: list[str], *, shift: float) -> VariantRow:
    name, bpw, _, ppl, correlation, kld, same = cells
    n_elements = N_ELEMENTS[model]
    tensor_bytes = round(float(bpw) * n_elements / 8)
    size = sample.reference.size.model_copy(
        update={
            "bpw": float(bpw) + shift,
            "n_elements": n_elements,
            "tensor_bytes": tensor_bytes,
            "file_bytes": tensor_bytes + 11_000_000,
        }
    )
    kept: dict[str, Any] = {
        "label": name.removeprefix(f"{model}-"), "file": f"{name}.gguf", "size": size,
        "ppl": _estimate(ppl, shift), "sha256": digest(name), "speed": (),
    }  # fmt: skip
    if kld == "N/A":
        return sample.reference.model_copy(update=kept)
    ratio = _estimate(ppl, shift).value / 7.740724 if model == "Qwen3.5-9B" else 1.0
    kept["kind"] = "other" if name.endswith(OTHERS) else "variant"
    result = KldResult.model_validate(kld_result(_estimate(kld, shift).value / 0.036272))
    kept["quality"] = result.model_copy(
        update={
            "ppl_correlation": float(correlation.removesuffix("%")) + shift,
            "mean_kld": _estimate(kld, shift),
            "same_top_p": _estimate(same, shift),
            "ppl_ratio": Estimate(value=ratio, stderr=0.0005),
        }
    )
    return sample.variants[0].model_copy(update=kept)


def _speeds(published: dict[str, Any], name: str) -> tuple[BenchRow, ...]:
    found = ((cells[5], cells[6]) for cells in published["speed"] if cells[0] == name)
    return tuple(
        BenchRow(test=test, tokens_per_second=_estimate(speed, 0.0), samples=(1.0, 2.0))
        for test, speed in found
    )


def _estimate(cell: str, shift: float) -> Estimate:
    value, stderr = cell.split(" ±")
    return Estimate(value=float(value) + shift, stderr=float(stderr) + shift)
