"""Records to the results document."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Literal

from llamacpp_pipeline import __version__
from llamacpp_pipeline.config.schema import ModelConfig
from llamacpp_pipeline.errors import PipelineError
from llamacpp_pipeline.plan.step import Leaf, OutputRef
from llamacpp_pipeline.results.commands import commands_run
from llamacpp_pipeline.results.conditions import NOISE_FLOOR, measured_under, speed_under
from llamacpp_pipeline.results.document import (
    ComparisonRef,
    ModelFacts,
    Publication,
    ResultsDocument,
    WeightsFacts,
    not_finite,
)
from llamacpp_pipeline.results.files import published_files
from llamacpp_pipeline.results.imatrix import imatrix_facts
from llamacpp_pipeline.results.redact import Redactor, redactor_of_this_machine
from llamacpp_pipeline.results.references import reference_rows
from llamacpp_pipeline.results.rivals import beaten_rows, matched_rows
from llamacpp_pipeline.results.run import RunRecords
from llamacpp_pipeline.results.select import selections
from llamacpp_pipeline.results.sensitivity import sensitivity_facts
from llamacpp_pipeline.results.table import VariantRow, variant_rows
from llamacpp_pipeline.results.tasks import task_facts
from llamacpp_pipeline.stages.convert import ConvertResult
from llamacpp_pipeline.stages.fetch import FetchResult
from llamacpp_pipeline.stages.inspect import InspectResult
from llamacpp_pipeline.stages.kld import KldResult
from llamacpp_pipeline.stages.weights import WeightsResult

MOST_TENSORS = 20  # of the F16 check; the step's own report has them all
OWN_TEXT = frozenset({"notes", "template"})  # the publisher's words: only secrets are taken out


def results_document(
    run: RunRecords,
    *,
    created: datetime | None = None,
    redactor: Redactor | None = None,
    template: str | None = None,
) -> ResultsDocument:
    """Everything a run found out; `template` is the text of the publisher's own card template.

    Raises:
        MixedConditionsError: where figures were measured under different conditions.
        PipelineError: where the reference was not made or not measured, or a figure is NaN.

    """
    for key, record in run.records.items():
        refuse_not_finite(key, record.result)
    reference, *variants = variant_rows(run)
    references = reference_rows(run)
    document = ResultsDocument(
        pipeline_version=__version__,
        created=timestamp(created),
        name=run.name,
        model=_model(run),
        weights=_weights(run),
        conditions=measured_under(run),
        reference=reference,
        variants=tuple(variants),
        references=references,
        noise_floor=run.result(NOISE_FLOOR, KldResult),
        imatrix=imatrix_facts(run),
        sensitivity=sensitivity_facts(run, (*variants, *references)),
        selections=selections(run),
        matched=matched_rows((*variants, *references), _matches(run)),
        beaten=beaten_rows((*variants, *references)),
        comparisons=_comparisons(run, (*variants, *references)),
        speed=speed_under(run),
        tasks=task_facts(run, (reference, *variants, *references)),
        toolchain=run.toolchain,
        files=published_files(run),
        commands=commands_run(run),
        publication=_publication(run, template=template),
        incomplete=run.missing(),
    )
    redactor = redactor or redactor_of_this_machine()
    cleaned = redactor.tree(document.model_dump(mode="json"), keep=OWN_TEXT)
    return ResultsDocument.model_validate(cleaned)


def _matches(run: RunRecords) -> dict[str, str]:
    """The variants that are as large as another file, and that file's label."""
    return {v.label: v.match for v in run.config.variants if v.match is not None}


def timestamp(moment: datetime | None) -> str:
    """A moment (default: now) in UTC, to the second."""
    moment = moment or datetime.now(timezone.utc)
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def refuse_not_finite(key: str, result: dict[str, object]) -> None:
    """No figure may be NaN or infinite.

    Raises:
        PipelineError: naming the step and the figure.

    """
    bad = tuple(not_finite(result))
    if bad:
        raise PipelineError(
            f"record of {key}: {bad[0]} is not a finite number",
            evidence=bad,
            hint=f"run it again: `llamacpp-pipeline run --rerun {key.partition('/')[0]}`",
        )


def _model(run: RunRecords) -> ModelFacts:
    converted = run.needed_result("convert", ConvertResult)
    read = run.result("inspect", InspectResult)
    facts = {} if read is None else read.model_dump(include=FROM_INSPECT)
    source = run.plan.step("convert").inputs["model"]
    fetched = run.result(source.step, FetchResult) if isinstance(source, OutputRef) else None
    return ModelFacts(
        source=_source(run.config.model),
        repo=None if fetched is None else fetched.repo,
        commit=None if fetched is None else fetched.commit,
        digest=source.digest if isinstance(source, Leaf) else run.needed(source.step).fingerprint,
        gguf_architecture=converted.architecture,
        outtype=converted.outtype,
        pre_tokenizer=converted.pre_tokenizer,
        pre_tokenizer_overridden=converted.pre_tokenizer_overridden,
        **facts,
    )


FROM_INSPECT = {
    "architecture", "n_parameters", "dtypes", "n_layers", "vocab_size", "n_ctx_train", "has_mtp",
    "has_vision", "license", "languages", "tags", "pipeline_tag",
}  # fmt: skip


def _source(model: ModelConfig) -> Literal["hub", "folder", "demo"]:
    if model.demo:
        return "demo"
    return "folder" if model.repo is None else "hub"


def _weights(run: RunRecords) -> WeightsFacts | None:
    result = run.result("weights", WeightsResult)
    if result is None:
        return None
    return WeightsFacts(
        **result.model_dump(include=set(WeightsFacts.model_fields) & set(result.model_dump())),
        n_tensors_affected=len(result.tensors),
        worst=result.tensors[:MOST_TENSORS],
    )


def _comparisons(run: RunRecords, rows: tuple[VariantRow, ...]) -> tuple[ComparisonRef, ...]:
    measured = {row.label for row in rows if row.quality is not None}
    return tuple(
        ComparisonRef(
            variant=asked.variant,
            against=asked.against,
            variant_label=asked.variant_label,
            against_label=asked.against_label or asked.against,
        )
        for asked in run.config.card.compare
        if {asked.variant, asked.against} <= measured
    )


def _publication(run: RunRecords, *, template: str | None) -> Publication:
    card = run.config.card
    read = run.result("inspect", InspectResult)
    inherited = None if read is None else read.license
    return Publication(
        title=card.title or f"{run.name} GGUF",
        notes=card.notes,
        base_model=card.base_model or run.config.model.repo,
        license=card.license or inherited,
        quantized_by=card.quantized_by,
        template=template,
    )
