"""Which outputs become files of the result folder, and what they are called there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from pydantic import NonNegativeInt

from llamacpp_pipeline.config.variants import VariantConfig
from llamacpp_pipeline.errors import PipelineError
from llamacpp_pipeline.plan.candidates import candidates_of, final_file
from llamacpp_pipeline.plan.selection_text import REFERENCE
from llamacpp_pipeline.results.documented import Documented
from llamacpp_pipeline.results.run import RunRecords, output_file
from llamacpp_pipeline.stages.convert import ConvertResult

Kind = Literal["variant", "reference", "imatrix", "mmproj"]


class PublishedFile(Documented):
    """One file of the result folder."""

    name: str
    """Its name in the result folder."""
    kind: Kind
    """What it is."""
    step: str
    """Key of the step that made it."""
    output: str
    """Which output of that step it is."""
    size_bytes: NonNegativeInt
    """Its size."""
    sha256: str
    """sha256 of its bytes."""


def variant_file(name: str, label: str) -> str:
    """`<model>-<variant>.gguf`."""
    return f"{name}-{label}.gguf"


def published_files(run: RunRecords) -> tuple[PublishedFile, ...]:
    """The finished outputs that belong in the result folder: variants first, in their order.

    Raises:
        PipelineError: where two would have one name.

    """
    files = [*_variants(run), *_others(run)]
    _refuse_equal_names(file.name for file in files)
    return tuple(files)


def file_names(run: RunRecords) -> dict[tuple[str, str], str]:
    """(step, output) -> the name that file has, or would have, in the result folder."""
    names = {("reference", "logits"): f"{run.name}-logits.kld"}
    names[REFERENCE, "logits"] = f"{run.name}-selection-logits.kld"
    for key, prefix in (("convert", ""), ("mmproj", "mmproj-")):
        result = run.result(key, ConvertResult)
        if result is not None:
            label = result.outtype.upper()
            names[key, "gguf"] = f"{prefix}{variant_file(run.name, label)}"
    for step in run.plan.steps:
        if step.key.partition("/")[0] == "imatrix":
            names[step.key, "imatrix"] = variant_file(run.name, step.key.replace("/", "-"))
    for variant in run.config.variants:
        names |= _variant_names(run, variant)
    return names


def _variant_names(run: RunRecords, variant: VariantConfig) -> dict[tuple[str, str], str]:
    """The variant's file under each step that leaves it, and those of its candidates."""
    final = variant_file(run.name, variant.label)
    made = {f"quantize/{variant.label}", final_file(run.config, variant.label).step}
    whole = run.records.get(f"quantize/{variant.label}")
    names = {(step, "gguf"): final for step in made}
    for one in candidates_of(variant):
        kept = whole is not None and run.records.get(one.quantize) == whole
        names[one.quantize, "gguf"] = final if kept else variant_file(run.name, one.variant.label)
    return names


def _variants(run: RunRecords) -> list[PublishedFile]:
    steps = (final_file(run.config, variant.label).step for variant in run.config.variants)
    found = (_published(run, step, kind="variant") for step in steps)
    return [file for file in found if file is not None]


def _others(run: RunRecords) -> list[PublishedFile]:
    wanted: list[tuple[str, Kind, bool]] = [
        ("convert", "reference", run.config.output.reference),
        ("mmproj", "mmproj", True),
        ("imatrix", "imatrix", run.config.output.imatrix),
    ]
    found = (_published(run, key, kind=kind) for key, kind, asked in wanted if asked)
    return [file for file in found if file is not None]


def _published(run: RunRecords, key: str, *, kind: Kind) -> PublishedFile | None:
    record = run.records.get(key)
    if record is None:
        return None
    output = "imatrix" if kind == "imatrix" else "gguf"
    file = output_file(record, output)
    return PublishedFile(
        name=file_names(run)[key, output],
        kind=kind,
        step=key,
        output=output,
        size_bytes=file.size_bytes,
        sha256=file.sha256,
    )


def _refuse_equal_names(names: Iterable[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise PipelineError(
            f"result folder: two files would be called {twice[0]}",
            hint="give one of the variants another `name`, or set `output.reference: false`",
        )
