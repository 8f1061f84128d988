"""results.json: everything that was found out, as one documented and versioned value."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NoReturn

from pydantic import NonNegativeInt, PositiveInt, ValidationError, model_validator

from llamacpp_pipeline.errors import InputError, PipelineError
from llamacpp_pipeline.results.conditions import Conditions, SpeedConditions
from llamacpp_pipeline.results.documented import Documented
from llamacpp_pipeline.results.files import PublishedFile
from llamacpp_pipeline.results.imatrix import ImatrixFacts
from llamacpp_pipeline.results.rivals import Beaten, Matched
from llamacpp_pipeline.results.run import ToolchainFacts
from llamacpp_pipeline.results.select import Selection
from llamacpp_pipeline.results.sensitivity import SensitivityFacts
from llamacpp_pipeline.results.table import VariantRow
from llamacpp_pipeline.results.tasks import TaskFacts
from llamacpp_pipeline.stages.kld import KldResult
from llamacpp_pipeline.stages.weights import TensorTrouble

RESULTS_SCHEMA: Literal[1] = 1
RESULTS_NAME = "results.json"


class ModelFacts(Documented):
    """The unquantized model."""

    source: Literal["hub", "folder", "demo"]
    """A repository on the Hub, a local folder, or the embedded demo model."""
    repo: str | None = None
    """The Hub repository."""
    commit: str | None = None
    """Its commit."""
    digest: str
    """Digest of the local folder, or fingerprint of the step that fetched the files."""
    architecture: str | None = None
    """config.json's first architecture."""
    gguf_architecture: str
    """general.architecture of the GGUF."""
    outtype: Literal["f16", "bf16", "f32"]
    """The type of the reference GGUF."""
    pre_tokenizer: str
    """tokenizer.ggml.pre of the GGUF."""
    pre_tokenizer_overridden: bool
    """Whether the config named it because the converter does not know the vocabulary."""
    n_parameters: PositiveInt | None = None
    """Values in the checkpoint."""
    dtypes: dict[str, NonNegativeInt] = {}
    """dtype to the number of values stored in it in the checkpoint."""
    n_layers: PositiveInt | None = None
    """Layers."""
    vocab_size: PositiveInt | None = None
    """Tokens in the vocabulary."""
    n_ctx_train: PositiveInt | None = None
    """Context length it was trained for."""
    has_mtp: bool | None = None
    """Whether the checkpoint has multi-token-prediction tensors."""
    has_vision: bool | None = None
    """Whether the checkpoint has a vision part."""
    license: str | None = None
    """Licence that its card names."""
    languages: tuple[str, ...] = ()
    """Languages that its card names."""
    tags: tuple[str, ...] = ()
    """Tags of its card."""
    pipeline_tag: str | None = None
    """Task that its card names."""


class WeightsFacts(Documented):
    """Whether the checkpoint's weights fit F16, counted one by one."""

    n_values: PositiveInt
    """Weights counted."""
    n_overflow: NonNegativeInt
    """Beyond F16's largest value, 65504."""
    n_to_zero: NonNegativeInt
    """Not zero, but zero in F16."""
    n_subnormal: NonNegativeInt
    """Subnormal in F16: kept with fewer bits."""
    n_nan: NonNegativeInt
    """Not a number."""
    n_inf: NonNegativeInt
    """Infinite."""
    max_abs: float
    """The largest magnitude."""
    fits_f16: bool
    """No overflow, no NaN, no infinity."""
    n_tensors_affected: NonNegativeInt
    """Tensors with anything to report."""
    worst: tuple[TensorTrouble, ...]
    """The worst of them, at most twenty."""


class ComparisonRef(Documented):
    """Two variants whose KLD percentiles stand side by side."""

    variant: str
    """Label of the one."""
    against: str
    """Label of the other."""
    variant_label: str
    """Column heading of the one."""
    against_label: str
    """Column heading of the other."""


class CommandRun(Documented):
    """A command as run, with the published names of its files."""

    step: str
    """Key of the step."""
    argv: tuple[str, ...]
    """The command; the folders its files lay in are left out."""


class Publication(Documented):
    """What the card says that no measurement can know."""

    title: str
    """The card's title."""
    notes: str | None = None
    """The publisher's own Markdown."""
    base_model: str | None = None
    """Hub id of the model that was quantized."""
    license: str | None = None
    """Licence of the files."""
    quantized_by: str | None = None
    """Who made them."""
    template: str | None = None
    """The publisher's own template of the card, which stands in for ours or extends it."""


class ResultsDocument(Documented):
    """results.json. Null or an empty list means: not measured, or not known."""

    schema_version: Literal[1] = RESULTS_SCHEMA
    """Version of this document's form; raised when a field changes its meaning or goes."""
    pipeline_version: str
    """Version of llamacpp-pipeline that wrote it."""
    created: str
    """When, in UTC (ISO 8601)."""
    name: str
    """The model's name, and the stem of every file."""
    model: ModelFacts
    """The unquantized model."""
    weights: WeightsFacts | None = None
    """The F16 check of its weights."""
    conditions: Conditions
    """What all PPL and KLD figures were measured under."""
    reference: VariantRow
    """The unquantized GGUF that all variants are compared with."""
    variants: tuple[VariantRow, ...]
    """The quantized GGUFs, in the config's order."""
    references: tuple[VariantRow, ...] = ()
    """Other publishers' files of the same model, measured alike; not in the result folder."""
    noise_floor: KldResult | None = None
    """The reference measured against its own logits, which are stored with 16 bits."""
    imatrix: ImatrixFacts | None = None
    """What the importance matrix tells about the model; absent where no imatrix is used."""
    sensitivity: SensitivityFacts | None = None
    """Measured sensitivities of the tensors; absent where none were asked for."""
    selections: tuple[Selection, ...] = ()
    """Variants with several candidates: which was kept, why, and the figures of the others."""
    matched: tuple[Matched, ...] = ()
    """Variants made as large as another file, each compared with that one."""
    beaten: tuple[Beaten, ...] = ()
    """Variants that lose in mean KLD to one that is no larger."""
    comparisons: tuple[ComparisonRef, ...] = ()
    """Percentile tables that the config asks for."""
    speed: SpeedConditions | None = None
    """What all speed figures were measured under."""
    tasks: TaskFacts | None = None
    """What the scores on evaluation sets say of the files; absent where none were measured."""
    toolchain: ToolchainFacts
    """The llama.cpp that was used."""
    files: tuple[PublishedFile, ...] = ()
    """The files of the result folder."""
    commands: tuple[CommandRun, ...] = ()
    """The llama.cpp commands behind the files and figures."""
    publication: Publication
    """What the card says besides."""
    incomplete: tuple[str, ...] = ()
    """Steps of the plan that did not finish."""

    @model_validator(mode="after")
    def every_number_is_one(self) -> ResultsDocument:
        bad = list(not_finite(self.model_dump(mode="python")))
        if bad:
            message = f"not a finite number: {', '.join(bad)}"
            raise ValueError(message)
        return self

    def rows(self) -> tuple[VariantRow, ...]:
        """The reference, the variants and the other publishers' files."""
        return (self.reference, *self.variants, *self.references)

    def row(self, label: str) -> VariantRow | None:
        """The variant, or the other publisher's file, of that label."""
        found = (row for row in (*self.variants, *self.references) if row.label == label)
        return next(found, None)


def not_finite(value: Any, at: str = "") -> Iterator[str]:  # noqa: ANN401 - any JSON value
    """Where in a JSON value NaN and infinities stand."""
    if isinstance(value, float) and not math.isfinite(value):
        yield at
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from not_finite(item, f"{at}.{key}".lstrip("."))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from not_finite(item, f"{at}[{index}]")


def document_json(document: Documented) -> str:
    """The JSON text of a document: stable order, no NaN, one final newline."""
    data = document.model_dump(mode="json")
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def document_from_json(text: str, *, name: str = RESULTS_NAME) -> ResultsDocument:
    """The document that `text` holds.

    Raises:
        InputError: where it is not JSON, of another schema version, or of another form.

    """
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:
        raise InputError(
            f"{name}: not JSON ({error})", hint="write it again: run the pipeline once more"
        ) from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != RESULTS_SCHEMA:
        raise InputError(
            f"{name}: schema_version is {version!r}, this version reads {RESULTS_SCHEMA}",
            hint="read it with the version named in `pipeline_version`, or run the pipeline again",
        )
    try:
        return ResultsDocument.model_validate(data)
    except ValidationError as error:
        raise _wrong_form(name, error) from error


def read_results(folder: Path) -> ResultsDocument:
    """The results in a folder.

    Raises:
        InputError: where there are none, or they cannot be read.

    """
    path = folder / RESULTS_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InputError(
            f"{path}: cannot be read ({reason})",
            hint="name a folder that `llamacpp-pipeline run` wrote, or run it first",
        ) from error
    return document_from_json(text, name=str(path))


def _refuse_constant(name: str) -> NoReturn:
    message = f"{name} is no JSON number"
    raise ValueError(message)


def _wrong_form(name: str, error: ValidationError) -> PipelineError:
    return InputError(
        f"{name}: not a results document",
        evidence=[f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:8]],
        hint="write it again: run the pipeline once more (finished steps are kept)",
    )
