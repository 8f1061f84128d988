"""Whether a given imatrix is of this model, what it lacks, and what it tells."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click
from pydantic import PositiveInt, ValidationError

from llamacpp_pipeline.datasets import imatrix_file
from llamacpp_pipeline.datasets.imatrix_file import Imatrix
from llamacpp_pipeline.datasets.imatrix_statistics import locate, statistics
from llamacpp_pipeline.datasets.imatrix_use import lacking
from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages import own_tool
from llamacpp_pipeline.stages.base import Argv, Frozen, Paths, ToolStage
from llamacpp_pipeline.stages.gguf_facts import GgufTensor, read_gguf
from llamacpp_pipeline.stages.imatrix_facts import (
    ActivationStatistics,
    read_statistics,
    write_statistics,
)
from llamacpp_pipeline.stages.llama_log import complaints
from llamacpp_pipeline.stages.tensor_rules import quantizable

TOOL = "llamacpp_pipeline.stages.imatrix_check"
DRAFT = re.compile(r"blk\.(?P<layer>\d+)\.nextn\.")  # a multi-token-prediction layer's own tensors
SHOWN = 6
ANOTHER_MODEL = "give the imatrix of this model; or make one: `calibration:` in place of `imatrix:`"


class CheckParams(Frozen):
    """Nothing changes what is checked."""


class CheckResult(Frozen):
    format: Literal["gguf", "dat"]
    n_entries: PositiveInt
    n_chunks: PositiveInt | None  # as far as the file says
    n_ctx: PositiveInt | None
    lacking: tuple[str, ...]  # tensors that may be quantized, of which it knows nothing
    ignored: tuple[str, ...]  # entries that the model has no tensor for
    partial: tuple[str, ...]  # expert tensors that some experts never fed
    statistics: ActivationStatistics


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What the model and the file have in common, and what not."""

    lacking: tuple[str, ...]
    ignored: tuple[str, ...]


def argv(params: CheckParams, paths: Paths) -> Argv:
    del params
    return (
        TOOL,
        *("--model", str(paths["model"])),
        *("--imatrix", str(paths["imatrix"])),
        *("--statistics", str(paths["statistics"])),
        *("--output", str(paths["report"])),
    )


def parse(log: str, paths: Paths) -> CheckResult:
    found = read_statistics(paths["statistics"], tool=TOOL)
    try:
        result = CheckResult.model_validate_json(paths["report"].read_bytes())
    except (OSError, ValidationError) as error:
        evidence = (*complaints(log), str(error).splitlines()[0])
        raise UnreadableOutputError(TOOL, "a readable check.json", evidence) from error
    return result.model_copy(update={"statistics": found})


def fit(imatrix: Imatrix, tensors: Iterable[GgufTensor]) -> Fit:
    """Compare the entries with the model's tensors.

    Raises:
        InputError: where the file is of another model.

    """
    weights = {tensor.name: tensor for tensor in tensors if tensor.name.endswith(".weight")}
    ignored = tuple(name for name in imatrix.entries if name not in weights)
    refuse_other_sizes(imatrix, weights)
    refuse_other_names(imatrix, ignored, weights)
    wanted = [name for name, tensor in weights.items() if quantizable(tensor)]
    return Fit(lacking=lacking(imatrix, wanted), ignored=ignored)


def refuse_other_sizes(imatrix: Imatrix, weights: Mapping[str, GgufTensor]) -> None:
    """Every entry must have one value for each input channel (and expert) of its tensor."""
    wrong = [
        f"{name}: {entry.squares.size} values, the model needs {n_values(weights[name])}"
        for name, entry in imatrix.entries.items()
        if name in weights and entry.squares.size != n_values(weights[name])
    ]
    if wrong:
        raise InputError(
            f"the imatrix is of another model: {len(wrong)} tensors have another shape",
            evidence=wrong[:SHOWN],
            hint=ANOTHER_MODEL,
        )


def n_values(tensor: GgufTensor) -> int:
    """Input channels, times the experts."""
    return tensor.shape[0] * math.prod(tensor.shape[2:])


def refuse_other_names(
    imatrix: Imatrix, ignored: tuple[str, ...], weights: Mapping[str, GgufTensor]
) -> None:
    """Some names may be unknown (draft layers that were not converted), but not whole layers."""
    layers = {locate(name)[0] for name in weights}
    draft = {int(match["layer"]) for name in imatrix.entries if (match := DRAFT.match(name))}
    strange = [name for name in ignored if locate(name)[0] not in layers | draft | {None}]
    if len(ignored) == len(imatrix.entries) or strange:
        raise InputError(
            "the imatrix is of another model: it names layers or tensors that this one has not",
            evidence=(strange or list(ignored))[:SHOWN],
            hint=ANOTHER_MODEL,
        )


@click.command()
@click.option("--model", type=click.Path(path_type=Path), required=True)
@click.option("--imatrix", type=click.Path(path_type=Path), required=True)
@click.option("--statistics", "figures", type=click.Path(path_type=Path), required=True)
@click.option("--output", type=click.Path(path_type=Path), required=True)
def main(model: Path, imatrix: Path, figures: Path, output: Path) -> None:
    """Check an imatrix against a GGUF; write what it lacks, and its statistics."""

    def work() -> str:
        given = imatrix_file.read(imatrix)
        fitting = fit(given, read_gguf(model).tensors)
        write_statistics(figures, statistics(given), imatrix=given, files=[imatrix.name])
        report = result(given, fitting, read_statistics(figures, tool=TOOL))
        output.write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return f"{imatrix.name} fits"

    sys.exit(own_tool.run(work))


def result(given: Imatrix, fitting: Fit, found: ActivationStatistics) -> CheckResult:
    """All of it; the statistics are left to their own file."""
    return CheckResult(
        format=given.format,
        n_entries=len(given.entries),
        n_chunks=given.chunk_count,
        n_ctx=given.chunk_size if given.format == "gguf" else None,
        lacking=fitting.lacking,
        ignored=fitting.ignored,
        partial=tuple(t.name for t in found.tensors if t.experts and t.experts.n_unseen),
        statistics=ActivationStatistics(tensors=(), layers=()),
    )


STAGE = ToolStage(
    name="check-imatrix",
    version=1,  # bump when argv or parse changes meaning
    tool=TOOL,
    made_by="pipeline",
    inputs=frozenset({"model", "imatrix"}),
    outputs={"report": "check.json", "statistics": "statistics.json"},
    params=CheckParams,
    result=CheckResult,
    lane="host",
    argv=argv,
    parse=parse,
    explain=own_tool.explain,
)

if __name__ == "__main__":
    main()
