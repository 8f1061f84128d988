"""Every stage by its name; not in `__init__`, as some of them are run as programs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from llamacpp_pipeline.stages import (
    bench,
    check_probe,
    check_selection,
    check_texts,
    convert,
    curves,
    dataset,
    fetch,
    fetch_url,
    imatrix,
    imatrix_check,
    imatrix_merge,
    inspect,
    kld,
    memory,
    perplexity,
    probe,
    quantize,
    quantize_target,
    reference_file,
    refine,
    select,
    sensitivity,
    tasks,
    weights,
)
from llamacpp_pipeline.stages import text as text_stage
from llamacpp_pipeline.stages.base import ToolStage

STAGES: Mapping[str, ToolStage[Any, Any]] = MappingProxyType(
    {
        stage.name: stage
        for stage in (
            fetch.STAGE,
            fetch_url.STAGE,
            inspect.STAGE,
            weights.STAGE,
            convert.STAGE,
            perplexity.REFERENCE,
            perplexity.STAGE,
            check_texts.STAGE,
            dataset.STAGE,
            text_stage.STAGE,
            imatrix.STAGE,
            imatrix_merge.STAGE,
            imatrix_check.STAGE,
            quantize.STAGE,
            quantize_target.STAGE,
            memory.STAGE,
            reference_file.STAGE,
            kld.STAGE,
            check_probe.STAGE,
            check_selection.STAGE,
            probe.STAGE,
            curves.STAGE,
            sensitivity.STAGE,
            refine.STAGE,
            select.STAGE,
            bench.STAGE,
            tasks.STAGE,
        )
    }
)
