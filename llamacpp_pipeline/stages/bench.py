"""Tokens per second of one GGUF on this machine, by llama-bench."""

from __future__ import annotations

from typing import Annotated

from pydantic import PositiveInt, StringConstraints

from llamacpp_pipeline.stages.base import Frozen
from llamacpp_pipeline.units import Estimate

TestName = Annotated[str, StringConstraints(pattern=r"^(pp\d+|tg\d+|pp\d+\+tg\d+)$")]


class BenchParams(Frozen):
    """Tests in llama-bench's own names."""

    tests: tuple[TestName, ...] = ("pp512", "tg128", "pp1024+tg1024")
    repetitions: PositiveInt = 5
    n_batch: PositiveInt = 2048
    n_ubatch: PositiveInt = 512


class BenchRow(Frozen):
    test: str
    tokens_per_second: Estimate  # mean and standard deviation over the repetitions
    samples: tuple[float, ...]


class BenchResult(Frozen):
    rows: tuple[BenchRow, ...]
    cpu: str
    gpu: str
    backends: str
    n_threads: PositiveInt
    n_gpu_layers: int
