"""A run whose sensitivities were measured: four tensors at two types, in a law of our own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from llamacpp_pipeline.results.record import StepRecord
from llamacpp_pipeline.results.run import RunRecords
from tests.unit.results.sample import changed, digest, sample_run

NOISE = 1e-4
RHO = {"iq3_s": 0.02, "q3_K": 0.03, "q4_K": 0.005, "q5_K": 0.001, "q6_K": 0.0002}
BITS = {"iq3_s": 3.4375, "q3_K": 3.4375, "q4_K": 4.5, "q5_K": 5.5, "q6_K": 6.5625, "bf16": 16.0}
ALPHA = {
    "token_embd.weight": 0.5,
    "blk.0.attn_q.weight": 0.02,
    "blk.0.ffn_down.weight": 0.1,
    "blk.3.ffn_down.weight": 0.25,
}
ELEMENTS = 256
MEASURED_AT = ("iq3_s", "q5_K")
BENT = 1.25  # what q5_K diverges more than the line through iq3_s says
BY_SIZE: dict[str, Any] = {
    "variants": [{"ftype": "Q4_K_M"}, {"name": "matched", "match": "Q4_K_M"}],
    "card": {},
}
STANDARD = dict(zip(ALPHA, ("q6_K", "q4_K", "q4_K", "q6_K"), strict=True))
CHOSEN = dict(zip(ALPHA, ("q6_K", "q3_K", "q6_K", "q4_K"), strict=True))


def divergence(name: str, kind: str) -> float:
    """Nats of one tensor at one type, as the curve has it."""
    return ALPHA[name] * (RHO[kind] + NOISE) if kind in RHO else 0.0


def measured_at(name: str, kind: str) -> float:
    return divergence(name, kind) * (BENT if kind == "q5_K" else 1.0)


def bytes_of(kind: str) -> int:
    return round(BITS[kind] * ELEMENTS / 8)


def tensor(name: str) -> dict[str, Any]:
    block, _, rest = name.removeprefix("blk.").partition(".")
    inside = name.startswith("blk.")
    return {
        "name": name,
        "layer": int(block) if inside else None,
        "role": rest if inside else name,
        "elements": ELEMENTS,
        "alpha": {"value": ALPHA[name], "stderr": ALPHA[name] / 10},
        "prior": 2 * ALPHA[name],
        "measured": [
            {"type": kind, "rho": RHO[kind],
             "divergence": {"value": measured_at(name, kind), "stderr": 1e-7}}
            for kind in MEASURED_AT
        ],
        "curve": [
            {"type": kind, "bytes": bytes_of(kind), "divergence": divergence(name, kind)}
            for kind in BITS
        ],
    }  # fmt: skip


def results() -> dict[str, dict[str, Any]]:
    return {
        "check-probe": {
            "digest": digest("probe"), "shared_with_evaluation": 0.001,
            "shared_with_calibration": 0.0,
        },
        "probe": {
            "n_measurements": 9, "n_missing": 0, "n_ctx": 256, "n_chunks": 16, "n_tokens": 2048,
            "floor": 0.0, "seconds": 60.0,
        },
        "curves": {"n_tensors": 4, "n_types": 6, "measured": 20},
        "sensitivity": {
            "n_measurements": 9, "noise": NOISE, "floor": 0.0, "seconds": 60.0,
            "tensors": [tensor(name) for name in ALPHA], "not_measured": [],
            "prior_rank_correlation": 1.0,
        },
    }  # fmt: skip


def planned(types: dict[str, str]) -> list[dict[str, Any]]:
    """What the planner says of its tensors; a type beyond the curve has a relative error of 0.1."""
    return [
        {"name": name, "status": "chosen", "type": kind, "bytes": bytes_of(kind)
         if kind in BITS else 70, "elements": ELEMENTS, "alpha": ALPHA[name],
         "error": divergence(name, kind) if kind in RHO else ALPHA[name] * 0.1}
        for name, kind in types.items()
    ]  # fmt: skip


def measured_run(
    *, standard: dict[str, str] | None = None, chosen: dict[str, str] | None = None
) -> RunRecords:
    """Q4_K_M and a file as large, whose types were chosen with what was measured."""
    run = sample_run(config=BY_SIZE)
    run = _with(run, "quantize/Q4_K_M", type_of=STANDARD if standard is None else standard)
    tensors = planned(CHOSEN if chosen is None else chosen)
    run = _with(run, "quantize/matched", tensors=tensors, alpha_sources=["given"],
                asked={"kind": "match", "bpw": 4.9, "size_bytes": None, "fit": None})  # fmt: skip
    steps = {key: _step(run.needed("convert"), key, found) for key, found in results().items()}
    return replace(run, records={**run.records, **steps})


def _with(run: RunRecords, key: str, **more: object) -> RunRecords:
    return changed(run, key, result={**run.records[key].result, **more})


def _step(like: StepRecord, key: str, result: dict[str, Any]) -> StepRecord:
    seconds = {"probe": 40.0, "curves": 6.0}.get(key, 0.5)
    params = {"types": list(MEASURED_AT), "n_ctx": 256} if key == "probe" else {}
    return like.model_copy(
        update={"stage": key, "result": result, "seconds": seconds, "params": params}
    )
