"""Records to one row per GGUF: what it is, how large, how good, how fast."""

from __future__ import annotations

from typing import Literal, TypedDict

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from llamacpp_pipeline.config.variants import VariantConfig
from llamacpp_pipeline.results.allocation import Allocation, allocation
from llamacpp_pipeline.results.conditions import REFERENCE, measured_under, speed_under
from llamacpp_pipeline.results.documented import Documented
from llamacpp_pipeline.results.files import file_names, published_files
from llamacpp_pipeline.results.memory import MemoryNeed, memory_needs
from llamacpp_pipeline.results.record import StepRecord
from llamacpp_pipeline.results.refinement import refinement
from llamacpp_pipeline.results.run import RunRecords, output_file
from llamacpp_pipeline.results.task_scores import TaskScore, average_of, scores_of
from llamacpp_pipeline.stages.bench import BenchResult, BenchRow
from llamacpp_pipeline.stages.convert import ConvertResult
from llamacpp_pipeline.stages.kld import KldResult
from llamacpp_pipeline.stages.perplexity import PerplexityResult
from llamacpp_pipeline.stages.quantize import QuantizeParams, QuantizeResult
from llamacpp_pipeline.stages.quantize_target import STAGE as TARGET
from llamacpp_pipeline.stages.quantize_target import TargetParams, TargetResult
from llamacpp_pipeline.units import Estimate


class Recipe(Documented):
    """How a variant departs from the reference."""

    ftype: str
    """The file type, as llama-quantize prints it; of a file by size, the standard mix nearest."""
    imatrix: bool
    """Whether an importance matrix was used."""
    tensor_types: dict[str, str] = {}
    """Regex on the tensor name to the type asked for; the first match wins."""
    overridden: dict[str, NonNegativeInt] = {}
    """Regex of `tensor_types` to the number of tensors it decided."""
    output_tensor_type: str | None = None
    """The type asked for output.weight."""
    token_embedding_type: str | None = None
    """The type asked for the token embeddings."""
    leave_output_tensor: bool = False
    """output.weight was left as it is."""
    pure: bool = False
    """Every tensor has the file type's own type."""
    fallbacks: tuple[str, ...] = ()
    """Tensors whose rows did not fit the type asked for."""


class Size(Documented):
    """How large a GGUF is, read back from the file itself."""

    n_tensors: PositiveInt
    """Tensors in the file."""
    n_elements: PositiveInt
    """Weights in the file."""
    tensor_bytes: PositiveInt
    """Bytes of all tensors."""
    file_bytes: PositiveInt
    """Bytes of the file."""
    bpw: PositiveFloat
    """Bits per weight of the tensors, as llama-quantize prints it."""
    file_bpw: PositiveFloat
    """Bits per weight of the whole file, metadata included."""
    types: dict[str, PositiveInt] = {}
    """ggml type to the number of tensors stored in it; empty for the reference."""


class Origin(Documented):
    """Where another publisher's file comes from, and what it says of itself."""

    repo: str | None = None
    """The Hub repository; absent for a local file."""
    commit: str | None = None
    """Its commit."""
    quantized_by: str | None = None
    """Who made it, as the file says."""
    imatrix_dataset: str | None = None
    """The text of its importance matrix, as the file says."""
    notes: tuple[str, ...] = ()
    """How it departs from our reference without being another model."""


class VariantRow(Documented):
    """One GGUF with all its figures. What was not measured is absent (null), never 0."""

    label: str
    """Its name in tables: the variant's name, or F16 or BF16 for the reference."""
    kind: Literal["reference", "variant", "other"]
    """The unquantized file that all others are compared with, a quantized one of ours, or another
    publisher's."""
    file: str
    """Its file name in the result folder; of another publisher's file, its own."""
    published: bool
    """Whether it is in the result folder."""
    sha256: str
    """sha256 of the file."""
    size: Size
    """How large it is."""
    recipe: Recipe | None = None
    """How it was quantized; absent for the reference and for other publishers' files."""
    allocation: Allocation | None = None
    """How its types were chosen, where it was asked for by its size."""
    tensors: dict[str, str] = {}
    """Tensor to its ggml type, of all that can be quantized; empty for the reference, and where
    the record is of a version that did not tell."""
    memory: tuple[MemoryNeed, ...] = ()
    """What it needs in memory, by context; empty where not asked for."""
    labels: dict[str, str | int] = {}
    """What its own metadata says of its making: who, from what, by which recipe."""
    origin: Origin | None = None
    """Where another publisher's file comes from; absent for files of this run."""
    ppl: Estimate | None = None
    """Perplexity on the evaluation text."""
    quality: KldResult | None = None
    """Everything measured against the reference; absent for the reference itself."""
    speed: tuple[BenchRow, ...] = ()
    """Tokens per second by test; empty where not measured."""
    tasks: tuple[TaskScore, ...] = ()
    """Scores on evaluation sets; empty where not measured."""
    task_average: Estimate | None = None
    """Mean of the scores over the sets, percent; absent unless all were measured."""


class Scored(TypedDict):
    """The fields of a row that task scores fill."""

    tasks: tuple[TaskScore, ...]
    task_average: Estimate | None


def variant_rows(run: RunRecords) -> tuple[VariantRow, ...]:
    """One row per finished GGUF, the reference first, the variants in the config's order.

    Raises:
        MixedConditionsError: where figures were measured under different conditions.
        PipelineError: where the reference was not made or not measured.

    """
    measured_under(run)
    speed_under(run)
    published = {file.name for file in published_files(run)}
    variants = (
        _variant_row(run, variant, record=record, published=published)
        for variant in run.config.variants
        if (record := run.records.get(f"quantize/{variant.label}")) is not None
    )
    return (_reference_row(run, published=published), *variants)


def _reference_row(run: RunRecords, *, published: set[str]) -> VariantRow:
    result = run.needed_result("convert", ConvertResult)
    file = file_names(run)["convert", "gguf"]
    return VariantRow(
        label=result.outtype.upper(),
        kind="reference",
        file=file,
        published=file in published,
        sha256=output_file(run.needed("convert"), "gguf").sha256,
        size=_size(result),
        memory=memory_needs(run, result.tensor_bytes),
        ppl=run.needed_result(REFERENCE, PerplexityResult).ppl,
        speed=speeds(run, "bench/reference"),
        **scored(run, "reference"),
    )


def _variant_row(
    run: RunRecords, variant: VariantConfig, *, record: StepRecord, published: set[str]
) -> VariantRow:
    key = f"quantize/{variant.label}"
    by_size = record.stage == TARGET.name
    result = run.needed_result(key, TargetResult if by_size else QuantizeResult)
    quality = run.result(f"kld/{variant.label}", KldResult)
    file = file_names(run)[key, "gguf"]
    return VariantRow(
        label=variant.label,
        kind="variant",
        file=file,
        published=file in published,
        sha256=output_file(record, "gguf").sha256,
        size=_size(result),
        recipe=_recipe(record, result),
        labels=record.labels,
        allocation=_allocation(run, variant, record=record, result=result),
        tensors=_tensors(result),
        memory=memory_needs(run, result.tensor_bytes),
        ppl=None if quality is None else quality.ppl,
        quality=quality,
        speed=speeds(run, f"bench/{variant.label}"),
        **scored(run, variant.label),
    )


def _size(result: ConvertResult | QuantizeResult) -> Size:
    return Size(
        n_tensors=result.n_tensors,
        n_elements=result.n_elements,
        tensor_bytes=result.tensor_bytes,
        file_bytes=result.file_bytes,
        bpw=result.bpw,
        file_bpw=result.file_bpw,
        types=result.types if isinstance(result, QuantizeResult) else {},
    )


def _recipe(record: StepRecord, result: QuantizeResult) -> Recipe:
    by_size = isinstance(result, TargetResult)
    params = (TargetParams if by_size else QuantizeParams).model_validate(record.params)
    return Recipe(
        ftype=result.ftype,
        imatrix="imatrix" in record.inputs,
        tensor_types=params.tensor_types,
        overridden=result.overridden,
        output_tensor_type=params.output_tensor_type,
        token_embedding_type=params.token_embedding_type,
        leave_output_tensor=params.leave_output_tensor,
        pure=isinstance(params, QuantizeParams) and params.pure,
        fallbacks=result.fallbacks,
    )


def _allocation(
    run: RunRecords, variant: VariantConfig, *, record: StepRecord, result: QuantizeResult
) -> Allocation | None:
    if not isinstance(result, TargetResult):
        return None
    params, tried = TargetParams.model_validate(record.params), refinement(run, variant.label)
    return allocation(variant, params, result, tried=tried)


def _tensors(result: QuantizeResult) -> dict[str, str]:
    if isinstance(result, TargetResult):
        return {tensor.name: tensor.type for tensor in result.tensors}
    return result.type_of


def speeds(run: RunRecords, key: str) -> tuple[BenchRow, ...]:
    """Tokens per second of each test of a bench step; none where it did not finish."""
    result = run.result(key, BenchResult)
    return () if result is None else result.rows


def scored(run: RunRecords, label: str) -> Scored:
    """A file's scores on evaluation sets; `label` is that of its steps."""
    scores, asked = scores_of(run, label), run.config.tasks
    n_sets = 0 if asked is None else len(asked.sets)
    return {"tasks": scores, "task_average": average_of(scores, n_sets)}
