"""`imatrix`: look into importance matrix files, compare and merge them, whoever made them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from llamacpp_pipeline.datasets import imatrix_file, imatrix_use
from llamacpp_pipeline.datasets.imatrix_file import Imatrix
from llamacpp_pipeline.datasets.imatrix_statistics import statistics
from llamacpp_pipeline.datasets.imatrix_use import ImatrixComparison, TensorComparison
from llamacpp_pipeline.datasets.imatrix_weights import merge_weighted
from llamacpp_pipeline.errors import UsageError
from llamacpp_pipeline.report.figures import ABSENT, number
from llamacpp_pipeline.report.terminal import aligned
from llamacpp_pipeline.results.imatrix import (
    layer_sensitivities,
    listed,
    notes,
    tensor_sensitivities,
)
from llamacpp_pipeline.stages.imatrix_facts import (
    ActivationStatistics,
    Activity,
    facts_of,
    statistics_json,
)

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
HEAD = (
    "ΣE[x²]",
    "H_diag",
    "of max",
    "entropy",
    "active",
    "kurtosis",
    "gain",
    "cos E[x²]",
    "cos E[x]",
)

format_option = click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text"
)
chunk_option = click.option(
    "--dat-chunk-size",
    type=click.IntRange(min=1),
    default=imatrix_file.DEFAULT_CHUNK_SIZE,
    show_default=True,
    help="Tokens per chunk of a legacy .dat file, which does not say.",
)


@click.group()
def imatrix() -> None:
    """Look into importance matrix files (GGUF or legacy .dat), compare and merge them."""


@imatrix.command()
@click.argument("file", type=FILE)
@chunk_option
@format_option
def show(file: Path, dat_chunk_size: int, form: str) -> None:
    """Statistics of the activations behind FILE, by tensor and by layer."""
    matrix = imatrix_file.read(file, dat_chunk_size=dat_chunk_size)
    computed = statistics(matrix)
    found = facts_of(computed)
    if form == "json":
        document = statistics_json(computed, imatrix=matrix, files=[file.name])
        click.echo(json.dumps({**document, **sensitivities(found)}, indent=1, allow_nan=False))
        return
    parts = (heading(file, matrix), tensor_table(found), layer_table(found), remarks(found))
    click.echo("\n\n".join(part for part in parts if part))


@imatrix.command()
@click.argument("first", type=FILE)
@click.argument("second", type=FILE)
@format_option
def compare(first: Path, second: Path, form: str) -> None:
    """How far two files of one model are apart; the tensors that differ most come first."""
    compared = imatrix_use.compare(imatrix_file.read(first), imatrix_file.read(second))
    if form == "json":
        click.echo(json.dumps(asdict(compared), indent=1, allow_nan=False))
        return
    click.echo(
        "\n\n".join(part for part in (difference_table(compared), unmatched(compared)) if part)
    )


@imatrix.command()
@click.argument("files", type=FILE, nargs=-1, required=True)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="A new file."
)
@click.option(
    "--weight",
    "weights",
    type=click.IntRange(min=1),
    multiple=True,
    help="Each token of a file counts so many times: once for each file, in their order.",
)
@chunk_option
def merge(
    files: tuple[Path, ...], output: Path, weights: tuple[int, ...], dat_chunk_size: int
) -> None:
    """Merge FILES into one, exactly: sums and counts are added."""
    if output.exists():
        raise UsageError(f"{output} is there already", hint="name a new file, or remove it")
    if weights and len(weights) != len(files):
        raise UsageError(
            f"{len(weights)} weights for {len(files)} files",
            hint="give --weight once for each file",
        )
    parts = [imatrix_file.read(file, dat_chunk_size=dat_chunk_size) for file in files]
    merged = merge_weighted(parts, weights or [1] * len(parts))
    imatrix_file.write(merged, output)
    click.echo(heading(output, merged), err=True)
    click.echo(output)


def heading(file: Path, matrix: Imatrix) -> str:
    """What the file is."""
    if matrix.chunk_count and matrix.chunk_size:
        chunks = f"{matrix.chunk_count} chunks of {matrix.chunk_size} tokens"
    else:
        chunks = f"{matrix.chunk_count or 'unknown'} chunks"
    texts = f", from {', '.join(matrix.datasets)}" if matrix.datasets else ""
    return f"{file.name} ({matrix.format}): {len(matrix.entries)} tensors, {chunks}{texts}"


def sensitivities(found: ActivationStatistics) -> dict[str, Any]:
    """H_diag, raw and normalised, as results.json has it."""
    return {
        "tensor_h_diag": [t.model_dump(mode="json") for t in tensor_sensitivities(found.tensors)],
        "layer_h_diag": [one.model_dump(mode="json") for one in layer_sensitivities(found.layers)],
    }


def tensor_table(found: ActivationStatistics) -> str:
    """One line per tensor."""
    normalised = {one.name: one.normalised for one in tensor_sensitivities(found.tensors)}
    rows = [
        (ABSENT if t.layer is None else str(t.layer), t.name, *cells(t, normalised.get(t.name)))
        for t in found.tensors
    ]
    return aligned([("layer", "tensor", *HEAD), *rows], text_columns=(1,))


def layer_table(found: ActivationStatistics) -> str:
    """One line per layer."""
    if not found.layers:
        return ""
    normalised = {one.layer: one.normalised for one in layer_sensitivities(found.layers)}
    rows = [(str(one.layer), *cells(one, normalised.get(one.layer))) for one in found.layers]
    return aligned([("layer", *HEAD), *rows], text_columns=())


def cells(one: Activity, normalised: float | None) -> Iterator[str]:
    """The figures of a tensor or a layer."""
    squares, previous = one.mean_squares, one.to_previous
    similar = (None, None) if previous is None else (previous.mean_squares, previous.means)
    yield number(one.sum_mean_squares, digits=2)
    yield number(one.mean_square, digits=4)
    yield number(normalised, digits=4)
    yield number(one.normalized_entropy, digits=4)
    yield number(one.active_share, digits=4)
    yield number(None if squares is None else squares.excess_kurtosis, digits=2)
    yield number(one.gain, digits=3)
    for distance in similar:
        yield number(None if distance is None else distance.cosine_similarity, digits=4)


def remarks(found: ActivationStatistics) -> str:
    """What is missing, each said once."""
    return "\n".join(f"note: {note}" for note in notes(found, given=None))


def difference_table(compared: ImatrixComparison) -> str:
    """One line per tensor that both have, the most different first."""
    rows = [
        (
            one.name,
            number(one.gain, digits=3),
            number(one.mean_squares.cosine_similarity, digits=6),
            number(one.mean_squares.pearson_correlation, digits=6),
            number(None if one.means is None else one.means.cosine_similarity, digits=6),
        )
        for one in sorted(compared.tensors, key=similarity)
    ]
    if not rows:
        return "no tensor is in both files with the same shape"
    return aligned([("tensor", "gain", "cos E[x²]", "r E[x²]", "cos E[x]"), *rows])


def similarity(one: TensorComparison) -> tuple[float, str]:
    """By how alike they are; what cannot be compared comes first."""
    found = one.mean_squares.cosine_similarity
    return (-2.0 if found is None else found, one.name)


def unmatched(compared: ImatrixComparison) -> str:
    """The tensors that cannot be compared."""
    named = (
        ("only in the first", compared.only_first),
        ("only in the second", compared.only_second),
        ("of another shape", compared.other_shape),
    )
    return "\n".join(f"{what}: {len(names)}: {listed(names)}" for what, names in named if names)
