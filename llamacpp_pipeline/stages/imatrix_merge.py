"""The imatrices of several texts as one, exactly: sums and counts are added, by weight."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import click
from pydantic import PositiveInt

from llamacpp_pipeline.datasets import imatrix_file
from llamacpp_pipeline.datasets.imatrix_file import Imatrix
from llamacpp_pipeline.datasets.imatrix_statistics import (
    ImatrixStatistics,
    TensorStatistics,
    experts,
    statistics,
)
from llamacpp_pipeline.datasets.imatrix_weights import merge_weighted
from llamacpp_pipeline.errors import UnreadableOutputError
from llamacpp_pipeline.stages import own_tool
from llamacpp_pipeline.stages.base import Argv, Frozen, Paths, ToolStage
from llamacpp_pipeline.stages.gguf_facts import read_gguf
from llamacpp_pipeline.stages.imatrix import SUMS
from llamacpp_pipeline.stages.imatrix_facts import (
    ActivationStatistics,
    read_statistics,
    refuse_other_tensors,
    write_statistics,
)
from llamacpp_pipeline.stages.llama_log import complaints

TOOL = "llamacpp_pipeline.stages.imatrix_merge"
MOST_PARTS = 32


class MergeParams(Frozen):
    """How often each token of a part counts, in the order of the parts."""

    weights: tuple[PositiveInt, ...]


class MergeResult(Frozen):
    n_parts: PositiveInt
    n_entries: PositiveInt
    n_chunks: PositiveInt  # of all parts together, each counted once
    n_ctx: PositiveInt
    partial: tuple[str, ...]  # expert tensors that some experts never fed
    statistics: ActivationStatistics


def part_name(at: int) -> str:
    """The input that holds the part at a position from 0."""
    return f"part{at + 1}"


def argv(params: MergeParams, paths: Paths) -> Argv:
    parts = [
        ("--part", str(paths[part_name(at)]), str(weight))
        for at, weight in enumerate(params.weights)
    ]
    return (
        TOOL,
        *(word for part in parts for word in part),
        *("--output", str(paths["imatrix"])),
        *("--statistics", str(paths["statistics"])),
    )


def parse(log: str, paths: Paths) -> MergeResult:
    if "parts merged" not in log:
        raise UnreadableOutputError(TOOL, "its last word", complaints(log))
    facts = read_gguf(paths["imatrix"])
    names = [t.name.removesuffix(SUMS) for t in facts.tensors if t.name.endswith(SUMS)]
    found = read_statistics(paths["statistics"], tool=TOOL)
    refuse_other_tensors(found, names, tool=TOOL)
    return MergeResult(
        n_parts=sum(name.startswith("part") for name in paths),
        n_entries=len(names),
        n_chunks=facts.number("imatrix.chunk_count"),
        n_ctx=facts.number("imatrix.chunk_size"),
        partial=tuple(t.name for t in found.tensors if t.experts and t.experts.n_unseen),
        statistics=found,
    )


def merged_files(parts: tuple[tuple[Path, int], ...]) -> tuple[Imatrix, ImatrixStatistics]:
    """The merged imatrix with its statistics.

    A weight adds no evidence, so how many rows an expert saw is counted without it.

    Raises:
        InputError: where a file cannot be read, or they are not of one model.

    """
    read = [imatrix_file.read(path) for path, _ in parts]
    merged = merge_weighted(read, [weight for _, weight in parts])
    seen = merge_weighted(read, [1] * len(read))
    found = statistics(merged)
    return merged, replace(found, tensors=tuple(_as_seen(t, seen) for t in found.tensors))


def _as_seen(tensor: TensorStatistics, seen: Imatrix) -> TensorStatistics:
    return replace(tensor, experts=experts(seen.entries[tensor.name]))


@click.command()
@click.option("--part", "parts", type=(click.Path(path_type=Path), int), multiple=True)
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--statistics", "report", type=click.Path(path_type=Path), required=True)
def main(parts: tuple[tuple[Path, int], ...], output: Path, report: Path) -> None:
    """Merge imatrix files; a part is a file and its weight."""

    def work() -> str:
        merged, found = merged_files(parts)
        imatrix_file.write(merged, output)
        write_statistics(report, found, imatrix=merged, files=[path.name for path, _ in parts])
        return f"{len(parts)} parts merged"

    sys.exit(own_tool.run(work))


STAGE = ToolStage(
    name="merge-imatrix",
    version=1,  # bump when argv or parse changes meaning
    tool=TOOL,
    made_by="pipeline",
    inputs=frozenset({part_name(0), part_name(1)}),
    optional_inputs=frozenset(part_name(at) for at in range(2, MOST_PARTS)),
    outputs={"imatrix": "imatrix.gguf", "statistics": "statistics.json"},
    params=MergeParams,
    result=MergeResult,
    lane="host",
    argv=argv,
    parse=parse,
    explain=own_tool.explain,
)

if __name__ == "__main__":
    main()
