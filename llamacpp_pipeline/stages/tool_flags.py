"""Flags that llama-perplexity and llama-imatrix share: every number is passed, none defaulted."""

from __future__ import annotations

import os
import sys
from typing import Protocol

import psutil

from llamacpp_pipeline.stages.base import Argv, Placement


class Cut(Protocol):
    """How a text is cut into chunks and batches."""

    @property
    def n_ctx(self) -> int: ...
    @property
    def n_chunks(self) -> int | None: ...
    @property
    def n_batch(self) -> int: ...
    @property
    def n_ubatch(self) -> int: ...


def cut_flags(cut: Cut, *, flash_attn: str) -> Argv:
    """The context, the batches and the number of chunks (-1: all there are)."""
    return (
        *("--ctx-size", str(cut.n_ctx)),
        *("--batch-size", str(cut.n_batch)),
        *("--ubatch-size", str(cut.n_ubatch)),
        *("--flash-attn", flash_attn),
        *("--chunks", str(-1 if cut.n_chunks is None else cut.n_chunks)),
    )


def placement_flags(placement: Placement) -> Argv:
    """Threads, GPU layers, and `--fit off`: nothing is chosen by what happens to be free."""
    layers = placement.n_gpu_layers
    return (
        *("--threads", str(n_threads(placement))),
        *("--fit", "off"),
        *(() if layers is None else ("--n-gpu-layers", str(layers))),
        *placement.extra,
    )


def n_threads(placement: Placement) -> int:
    """The number asked for, else the physical cores that this process may use."""
    if placement.n_threads is not None:
        return placement.n_threads
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min(usable, psutil.cpu_count(logical=False) or usable))
