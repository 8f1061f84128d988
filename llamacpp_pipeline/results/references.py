"""Other publishers' files: a row each, measured like a variant and never published."""

from __future__ import annotations

from pathlib import PurePosixPath

from llamacpp_pipeline.plan.references import CHECK
from llamacpp_pipeline.results.conditions import file_ref
from llamacpp_pipeline.results.memory import memory_needs
from llamacpp_pipeline.results.run import RunRecords
from llamacpp_pipeline.results.table import Origin, Size, VariantRow, scored, speeds
from llamacpp_pipeline.stages.kld import KldResult
from llamacpp_pipeline.stages.reference_file import ReferenceResult


def reference_rows(run: RunRecords) -> tuple[VariantRow, ...]:
    """One row per reference that was found to be of this model, in the config's order.

    Raises:
        PipelineError: where a record has another form than this version reads.

    """
    names = (reference.name for reference in run.config.references)
    return tuple(_row(run, name) for name in names if f"{CHECK}/{name}" in run.records)


def _row(run: RunRecords, name: str) -> VariantRow:
    key = f"{CHECK}/{name}"
    result = run.needed_result(key, ReferenceResult)
    given = file_ref(run, run.plan.step(key).inputs["file"])
    quality = run.result(f"kld/{name}", KldResult)
    repo, _, commit = (given.source or "").partition("@")
    return VariantRow(
        label=name,
        kind="other",
        file=PurePosixPath(given.label).name,
        published=False,
        sha256=given.sha256,
        size=Size(**result.model_dump(include=set(Size.model_fields))),
        tensors=result.type_of,
        memory=memory_needs(run, result.tensor_bytes),
        origin=Origin(
            repo=repo or None,
            commit=commit or None,
            quantized_by=result.quantized_by,
            imatrix_dataset=result.imatrix_dataset,
            notes=result.notes,
        ),
        ppl=None if quality is None else quality.ppl,
        quality=quality,
        speed=speeds(run, f"bench/{name}"),
        **scored(run, name),
    )
