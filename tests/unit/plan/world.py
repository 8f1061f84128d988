"""Small configurations and sources to plan with."""

from __future__ import annotations

from pathlib import Path

from llamacpp_pipeline.config.schema import PipelineConfig
from llamacpp_pipeline.plan.expand import expand
from llamacpp_pipeline.plan.sources import HubCommit, ModelHints, Sources
from llamacpp_pipeline.plan.step import Leaf, Plan
from llamacpp_pipeline.stages.base import MadeBy

COMMIT = "c0ffee" * 6 + "c0de"
EVALUATION = {"corpus": {"demo": "evaluation"}, "n_ctx": 256}
CALIBRATION = {"corpus": {"demo": "calibration"}, "n_ctx": 128}


def leaf(name: str, *, size_bytes: int = 1000) -> Leaf:
    return Leaf(
        digest=name.encode().hex().ljust(64, "0")[:64],
        path=Path(name),
        label=name,
        size_bytes=size_bytes,
    )


HERE = Sources(model=leaf("model"), evaluation=leaf("wiki.test.raw"))
CALIBRATED = Sources(
    model=leaf("model"), evaluation=leaf("wiki.test.raw"), calibration=(leaf("train.txt"),)
)
ON_THE_HUB = Sources(
    model=HubCommit(commit=COMMIT),
    evaluation=HubCommit(commit=COMMIT),
    imatrix=HubCommit(commit=COMMIT),
)
QWEN_9B = ModelHints(vocab_size=248_320, n_parameters=9_000_000_000, tensor_bytes=18_000_000_000)


def config(**said: object) -> PipelineConfig:
    whole = {
        "model": {"demo": True},
        "evaluation": EVALUATION,
        "variants": [{"ftype": "Q8_0"}, {"ftype": "Q4_K_M"}],
        **said,
    }
    return PipelineConfig.model_validate(whole)


def plan(sources: Sources = HERE, **said: object) -> Plan:
    return expand(config(**said), sources)


def identity(made_by: MadeBy) -> str:
    return f"the {made_by}"
