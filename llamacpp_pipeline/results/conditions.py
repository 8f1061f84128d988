"""Under which conditions figures were measured, and the refusal to mix them."""

from __future__ import annotations

from pathlib import PurePosixPath

from pydantic import NonNegativeInt, PositiveInt

from llamacpp_pipeline.errors import MixedConditionsError, PipelineError
from llamacpp_pipeline.plan.step import Input, Leaf, OutputRef
from llamacpp_pipeline.results.documented import Documented
from llamacpp_pipeline.results.mixing import (
    refuse_different,
    refuse_mixed_inputs,
    refuse_mixed_measurements,
)
from llamacpp_pipeline.results.record import Machine
from llamacpp_pipeline.results.run import RunRecords, output_file
from llamacpp_pipeline.stages import imatrix_merge
from llamacpp_pipeline.stages import text as text_stage
from llamacpp_pipeline.stages.bench import BenchParams, BenchResult
from llamacpp_pipeline.stages.fetch import FetchResult
from llamacpp_pipeline.stages.imatrix import ImatrixResult
from llamacpp_pipeline.stages.imatrix_merge import MergeParams, MergeResult
from llamacpp_pipeline.stages.perplexity import PerplexityParams, PerplexityResult

REFERENCE = "reference"
NOISE_FLOOR = "kld/reference"
IMATRIX = "imatrix"


class FileRef(Documented):
    """A given file, known by its content."""

    label: str
    """Its name, without the folder it lay in."""
    sha256: str
    """sha256 of the file's bytes."""
    size_bytes: NonNegativeInt
    """Its size."""
    source: str | None = None
    """Where it came from: a Hub repository and its commit; absent for a local file."""


class CalibrationPart(Documented):
    """One of several calibration texts."""

    name: str
    """What its step is called: imatrix/<name>."""
    text: FileRef
    """The text."""
    n_chunks: PositiveInt
    """Chunks of it that were used."""
    weight: PositiveInt
    """How often each of its tokens counts in the merged imatrix."""


class Calibration(Documented):
    """What the imatrix was made from."""

    imatrix_sha256: str
    """sha256 of the imatrix file."""
    text: FileRef | None = None
    """The calibration text; absent where there are several, or a finished imatrix was given."""
    parts: tuple[CalibrationPart, ...] = ()
    """The calibration texts where there are several, merged into one imatrix."""
    n_ctx: PositiveInt | None = None
    """Context length at which the text was read."""
    n_chunks: PositiveInt | None = None
    """Chunks of the text that were used."""
    given: FileRef | None = None
    """The imatrix file that was given; absent where it was computed."""


class Conditions(Documented):
    """What PPL and KLD depend on besides the file measured."""

    corpus: FileRef
    """The text they are measured on."""
    n_ctx: PositiveInt
    """Context length; the first half of each chunk is context only."""
    n_chunks: PositiveInt
    """Chunks measured."""
    n_batch: PositiveInt
    """Logical batch size."""
    n_ubatch: PositiveInt
    """Physical batch size."""
    flash_attn: str
    """on, off or auto."""
    build_id: str
    """BuildId of the binaries that measured."""
    commit: str
    """The commit of llama.cpp they come from; "local" for a user's own checkout."""
    reference_fingerprint: str
    """Fingerprint of the step that wrote the reference logits."""
    calibration: Calibration | None = None
    """What the imatrix was made from; absent where no variant uses one."""


class SpeedConditions(Documented):
    """What tokens per second depend on besides the file measured."""

    cpu: str
    """CPU, as llama-bench names it."""
    gpu: str
    """GPU, as llama-bench names it; empty without one."""
    backends: str
    """Backends compiled in."""
    n_threads: PositiveInt
    """Threads used."""
    n_gpu_layers: int
    """Layers on the GPU; -1: llama.cpp decides."""
    n_batch: PositiveInt
    """Logical batch size."""
    n_ubatch: PositiveInt
    """Physical batch size."""
    repetitions: PositiveInt
    """Runs behind each mean."""
    machine: Machine
    """The machine, without its name."""
    build_id: str
    """BuildId of the binaries that measured."""


def measured_under(run: RunRecords) -> Conditions:
    """The conditions of the reference, which every variant must share.

    Raises:
        MixedConditionsError: where a figure was measured under others, or the calibration
            text is the evaluation text.

    """
    record = run.needed(REFERENCE)
    result = run.needed_result(REFERENCE, PerplexityResult)
    params = PerplexityParams.model_validate(record.params)
    conditions = Conditions(
        corpus=file_ref(run, run.plan.step(REFERENCE).inputs["corpus"]),
        n_ctx=result.n_ctx,
        n_chunks=result.n_chunks,
        n_batch=params.n_batch,
        n_ubatch=params.n_ubatch,
        flash_attn=params.flash_attn,
        build_id=record.made_by_id,
        commit=run.toolchain.commit,
        reference_fingerprint=record.fingerprint,
        calibration=_calibration(run),
    )
    refuse_mixed_inputs(run)
    refuse_mixed_measurements(run, reference=result, build_id=record.made_by_id)
    _refuse_calibration_on_evaluation(conditions)
    return conditions


def speed_under(run: RunRecords) -> SpeedConditions | None:
    """The conditions that all speed figures share; None where there are none.

    Raises:
        MixedConditionsError: where two were measured under different ones.

    """
    found = [(key, _speed(run, key)) for key in run.records if key.startswith("bench/")]
    if not found:
        return None
    first_key, first = found[0]
    for key, other in found[1:]:
        refuse_different(first, other, what=f"speeds of {first_key} and {key}")
    return first


def file_ref(run: RunRecords, source: Input) -> FileRef:
    """A given file: a leaf, a file that a fetch step brought, or a text made of either."""
    if isinstance(source, Leaf):
        return FileRef(
            label=PurePosixPath(source.label).name or source.label,
            sha256=source.digest,
            size_bytes=source.size_bytes,
        )
    if run.needed(source.step).stage == text_stage.STAGE.name:
        return _text_ref(run, source)
    fetched = run.needed_result(source.step, FetchResult)
    file = output_file(run.needed(source.step), source.output, source.member)
    return FileRef(
        label=PurePosixPath(file.name).name,
        sha256=file.sha256,
        size_bytes=file.size_bytes,
        source=f"{fetched.repo}@{fetched.commit}",
    )


def _text_ref(run: RunRecords, made: OutputRef) -> FileRef:
    """A text that was made of rows: its own content, under the name of the file they stood in."""
    rows = file_ref(run, run.plan.step(made.step).inputs[text_stage.SOURCE])
    file = output_file(run.needed(made.step), made.output)
    return rows.model_copy(update={"sha256": file.sha256, "size_bytes": file.size_bytes})


def _calibration(run: RunRecords) -> Calibration | None:
    computed = run.records.get(IMATRIX)
    if computed is not None:
        sha256 = output_file(computed, "imatrix").sha256
        if computed.stage == imatrix_merge.STAGE.name:
            return _of_several(run, imatrix_sha256=sha256)
        result = run.needed_result(IMATRIX, ImatrixResult)
        return Calibration(
            imatrix_sha256=sha256,
            text=file_ref(run, run.plan.step(IMATRIX).inputs["corpus"]),
            n_ctx=result.n_ctx,
            n_chunks=result.n_chunks,
        )
    source = _given_imatrix(run)
    if source is None:
        return None
    given = file_ref(run, source)
    return Calibration(imatrix_sha256=given.sha256, given=given)


def _of_several(run: RunRecords, *, imatrix_sha256: str) -> Calibration:
    result = run.needed_result(IMATRIX, MergeResult)
    weights = MergeParams.model_validate(run.needed(IMATRIX).params).weights
    merged = run.plan.step(IMATRIX).inputs
    parts = (merged[imatrix_merge.part_name(at)] for at in range(len(weights)))
    keys = [part.step for part in parts if isinstance(part, OutputRef)]
    return Calibration(
        imatrix_sha256=imatrix_sha256,
        parts=tuple(
            CalibrationPart(
                name=key.partition("/")[2],
                text=file_ref(run, run.plan.step(key).inputs["corpus"]),
                n_chunks=run.needed_result(key, ImatrixResult).n_chunks,
                weight=weight,
            )
            for key, weight in zip(keys, weights, strict=True)
        ),
        n_ctx=result.n_ctx,
        n_chunks=result.n_chunks,
    )


def _given_imatrix(run: RunRecords) -> Input | None:
    for step in run.plan.steps:
        source = step.inputs.get("imatrix")
        if source is None or step.key not in run.records:
            continue
        if isinstance(source, OutputRef) and source.step.partition("/")[0] == IMATRIX:
            continue
        return source
    return None


def _refuse_calibration_on_evaluation(conditions: Conditions) -> None:
    calibration = conditions.calibration
    if calibration is None:
        return
    alone = () if calibration.text is None else (calibration.text,)
    for text in (*alone, *(part.text for part in calibration.parts)):
        if text.sha256 == conditions.corpus.sha256:
            raise MixedConditionsError(
                f"calibration text {text.label}: it is the evaluation text, "
                "so PPL and KLD would flatter every variant that uses the imatrix",
                evidence=[f"both have sha256 {text.sha256}"],
                hint="give `calibration` another text than `evaluation.corpus`",
            )


def _speed(run: RunRecords, key: str) -> SpeedConditions:
    record = run.needed(key)
    result = run.needed_result(key, BenchResult)
    params = BenchParams.model_validate(record.params)
    if not result.rows:
        raise PipelineError(f"record of {key}: it has no speeds")
    return SpeedConditions(
        cpu=result.cpu,
        gpu=result.gpu,
        backends=result.backends,
        n_threads=result.n_threads,
        n_gpu_layers=result.n_gpu_layers,
        n_batch=params.n_batch,
        n_ubatch=params.n_ubatch,
        repetitions=params.repetitions,
        machine=record.machine,
        build_id=record.made_by_id,
    )
