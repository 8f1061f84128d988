"""What a record keeps of an importance matrix's statistics, whoever computed them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, NonNegativeInt, PositiveInt, ValidationError, field_validator

from llamacpp_pipeline.datasets.imatrix_file import Imatrix
from llamacpp_pipeline.datasets.imatrix_statistics import (
    ACTIVE_MEAN_SQUARE,
    FEW_ROWS,
    ImatrixStatistics,
    document,
)
from llamacpp_pipeline.errors import UnreadableOutputError
from llamacpp_pipeline.stages.base import Frozen

SCHEMA = 1  # of the JSON that `llama-imatrix --statistics-file` writes


class Read(Frozen):
    """Read from the statistics JSON, of which more may be known than is kept."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class Spread(Read):
    """One number per channel, over the channels."""

    mean: float | None
    standard_deviation: float | None
    skewness: float | None
    excess_kurtosis: float | None


class Distance(Read):
    """One number per channel, in two tensors of as many channels."""

    l2_distance: float | None
    cosine_similarity: float | None
    pearson_correlation: float | None
    covariance: float | None


def known(value: object) -> object:
    """A group of figures; nothing where none of them is known."""
    if isinstance(value, Mapping) and not any(part is not None for part in value.values()):
        return None
    return value


class Change(Read):
    """Against the same tensor of the nearest lower layer that has it."""

    means: Distance | None
    mean_squares: Distance | None

    @field_validator("means", "mean_squares", mode="before")
    @classmethod
    def nothing_known(cls, value: object) -> object:
        return known(value)


class Coverage(Read):
    """How the rows went to the experts of one tensor."""

    n_experts: PositiveInt
    n_unseen: NonNegativeInt  # experts without a row
    n_few: NonNegativeInt  # with fewer than FEW_ROWS, the unseen included
    fewest_rows: NonNegativeInt


class Activity(Read):
    """Of the inputs of one tensor, or of all tensors of a layer."""

    n_channels: NonNegativeInt
    sum_mean_squares: float | None
    mean_square: float | None  # H_diag
    normalized_entropy: float | None
    active_share: float | None
    has_means: bool
    mean_squares: Spread | None
    means: Spread | None
    gain: float | None
    to_previous: Change | None

    @field_validator("means", "mean_squares", mode="before")
    @classmethod
    def nothing_known(cls, value: object) -> object:
        return known(value)

    @field_validator("to_previous", mode="before")
    @classmethod
    def nothing_compared(cls, value: object) -> object:
        if isinstance(value, Mapping):
            return known({name: known(part) for name, part in value.items()})
        return value


class TensorActivity(Activity):
    """The inputs of one tensor."""

    name: str
    layer: int | None  # None: not in a block
    previous: str | None  # the tensor that it is compared with
    n_rows: NonNegativeInt
    experts: Coverage | None  # None: a dense tensor

    @field_validator("experts", mode="before")
    @classmethod
    def counted(cls, value: object) -> object:
        if not isinstance(value, Mapping) or "n_rows" not in value:
            return value
        rows = [int(n) for n in value["n_rows"]]
        return {**value, "n_experts": len(rows), "fewest_rows": min(rows)}


class LayerActivity(Activity):
    """The inputs of all tensors of a layer, channel after channel."""

    layer: int
    n_tensors: PositiveInt
    n_compared: NonNegativeInt  # tensors that an earlier layer has too


class ActivationStatistics(Frozen):
    tensors: tuple[TensorActivity, ...]
    layers: tuple[LayerActivity, ...]


def read_statistics(path: Path, *, tool: str) -> ActivationStatistics:
    """The JSON that the patched llama-imatrix and this package write.

    Raises:
        UnreadableOutputError: where it is absent, of another form or another version.

    """
    try:
        found = kept(of_this_schema(json.loads(path.read_bytes())))
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        evidence = [line for line in str(error).splitlines() if line][:4]
        raise UnreadableOutputError(tool, "readable activation statistics", evidence) from error
    if not found.tensors:
        raise UnreadableOutputError(tool, "activation statistics of any tensor")
    return found


def of_this_schema(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same; it is refused where its numbers may mean something else.

    Raises:
        ValueError: where it is of another schema.

    """
    if data["schema"] != SCHEMA:
        message = f"its schema is {data['schema']!r}, not {SCHEMA}"
        raise ValueError(message)
    return data


def facts_of(statistics: ImatrixStatistics) -> ActivationStatistics:
    """What is kept of statistics that were computed here."""
    return kept(document(statistics))


def kept(data: Mapping[str, Any]) -> ActivationStatistics:
    """What is kept of the statistics JSON."""
    layers = [{**layer, "n_tensors": len(layer["tensors"])} for layer in data["layers"]]
    return ActivationStatistics.model_validate({"tensors": data["tensors"], "layers": layers})


def statistics_json(
    statistics: ImatrixStatistics, *, imatrix: Imatrix, files: Sequence[str]
) -> dict[str, Any]:
    """The JSON that the tool writes, for an imatrix that this package merged or was given."""
    return {
        "schema": SCHEMA,
        "files": list(files),
        "datasets": list(imatrix.datasets),
        "chunk_count": imatrix.chunk_count,
        "chunk_size": imatrix.chunk_size,
        "active_mean_square": ACTIVE_MEAN_SQUARE,
        "few_rows": FEW_ROWS,
        **document(statistics),
    }


def write_statistics(
    path: Path, statistics: ImatrixStatistics, *, imatrix: Imatrix, files: Sequence[str]
) -> None:
    """The same as a file."""
    data = statistics_json(statistics, imatrix=imatrix, files=files)
    path.write_text(json.dumps(data, allow_nan=False) + "\n", encoding="utf-8")


def refuse_other_tensors(found: ActivationStatistics, names: Sequence[str], *, tool: str) -> None:
    """Refuse statistics that are not those of the imatrix beside them.

    Raises:
        UnreadableOutputError: naming what differs.

    """
    differing = sorted({tensor.name for tensor in found.tensors} ^ set(names))
    if differing:
        raise UnreadableOutputError(tool, "statistics of the tensors it wrote", differing[:6])
