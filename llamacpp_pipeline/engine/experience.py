"""What the store knows of how long steps take on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from llamacpp_pipeline.engine.store import CorruptEntryError, Store
from llamacpp_pipeline.plan.pace import Timed
from llamacpp_pipeline.results.record import Machine, RecordedInput, StepRecord
from llamacpp_pipeline.stages.bench import BenchResult

MODEL_INPUTS = ("model", "gguf1")
PROBE = "probe"
OF_TEXT = frozenset(
    {"reference", "perplexity", "kld", "imatrix", "refine", PROBE}
)  # whose result says how much text
MEASURING = frozenset({"curves", "quantize-target"})


def experience(store: Store, machine: Machine) -> tuple[Timed, ...]:
    """Every finished step that was run on this machine, whatever plan it was of."""
    records = {record.fingerprint: record for record in _records(store)}
    return tuple(
        timed(record, family=family_of(record, records))
        for record in records.values()
        if (record.machine.hostless_name, record.machine.n_cores)
        == (machine.hostless_name, machine.n_cores)
    )


def timed(record: StepRecord, *, family: str | None) -> Timed:
    """One record as a step that was timed."""
    model = record.inputs.get("model")
    text = record.inputs.get("tasks")
    return Timed(
        stage=record.stage,
        seconds=_seconds(record),
        family=family,
        tokens=_tokens(record.result) if record.stage in OF_TEXT else None,
        model_bytes=None if model is None else model.size_bytes,
        output_bytes=sum(file.size_bytes for file in record.outputs),
        text=None if text is None else text.digest,
        params=record.params,
        n_threads=record.placement.n_threads or record.machine.n_cores,
        prompt_speed=_prompt_speed(record),
        measured=_whole(record.result, "measured") if record.stage in MEASURING else None,
    )


def family_of(record: StepRecord, records: Mapping[str, StepRecord]) -> str | None:
    """The digest of the checkpoint behind a step's model, as `plan.pace.family_of` has it."""
    at: StepRecord | None = record
    while at is not None:
        model = model_of(at.inputs)
        if at.stage == "convert":
            return None if model is None else model.digest
        at = None if model is None else records.get(model.digest)
    return None


def model_of(inputs: Mapping[str, RecordedInput]) -> RecordedInput | None:
    """The input that is the model, or the first of several candidates."""
    return next((inputs[name] for name in MODEL_INPUTS if name in inputs), None)


def _records(store: Store) -> list[StepRecord]:
    found = []
    for fingerprint in store.fingerprints():
        try:
            entry = store.read(fingerprint)
        except CorruptEntryError:
            continue  # who needs it is told when it is made again
        if entry is not None:
            found.append(entry.record)
    return found


def _tokens(result: Mapping[str, Any]) -> int | None:
    """Of a text, as often as it was computed: a probe computes it for each measurement."""
    if "computed_tokens" in result:
        return _whole(result, "computed_tokens") or None
    n_ctx, n_chunks = _whole(result, "n_ctx"), _whole(result, "n_chunks")
    if n_ctx is None or n_chunks is None:
        return None
    return n_ctx * n_chunks * (_whole(result, "n_measurements") or 1)


def _seconds(record: StepRecord) -> float:
    """What the step took; of a probe, what its measurements took, in however many runs."""
    measuring = record.result.get("seconds") if record.stage == PROBE else None
    return float(measuring) if isinstance(measuring, (int, float)) else record.seconds


def _whole(result: Mapping[str, Any], name: str) -> int | None:
    found = result.get(name)
    return found if isinstance(found, int) else None


def _prompt_speed(record: StepRecord) -> float | None:
    """Tokens per second of the longest prompt of a bench."""
    if record.stage != "bench":
        return None
    try:
        rows = BenchResult.model_validate(record.result).rows
    except ValidationError:
        return None
    prompts = [row for row in rows if row.test.startswith("pp") and "+" not in row.test]
    longest = max(prompts, key=lambda row: int(row.test[2:]), default=None)
    return None if longest is None else longest.tokens_per_second.value
