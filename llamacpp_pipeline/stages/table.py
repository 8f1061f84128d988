"""Every stage by its name; not in `__init__`, as some of them are run as programs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from llamacpp_pipeline.stages import (
    bench,
    convert,
    fetch,
    imatrix,
    inspect,
    kld,
    perplexity,
    quantize,
    weights,
)
from llamacpp_pipeline.stages.base import ToolStage

STAGES: Mapping[str, ToolStage[Any, Any]] = MappingProxyType(
    {
        stage.name: stage
        for stage in (
            fetch.STAGE,
            inspect.STAGE,
            weights.STAGE,
            convert.STAGE,
            perplexity.REFERENCE,
            perplexity.STAGE,
            imatrix.STAGE,
            quantize.STAGE,
            kld.STAGE,
            bench.STAGE,
        )
    }
)
