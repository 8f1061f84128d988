"""The refusal to put numbers measured under different conditions into one table."""

from __future__ import annotations

from collections.abc import Iterable

from llamacpp_pipeline.errors import MixedConditionsError
from llamacpp_pipeline.plan.selection_text import KLD, REFERENCE
from llamacpp_pipeline.plan.step import Input, Leaf
from llamacpp_pipeline.results.documented import Documented
from llamacpp_pipeline.results.record import StepRecord
from llamacpp_pipeline.results.run import RunRecords
from llamacpp_pipeline.stages.kld import KldResult
from llamacpp_pipeline.stages.perplexity import PerplexityResult

SHOWN = 12  # characters of a digest in a message


def refuse_different(first: Documented, other: Documented, *, what: str) -> None:
    """Let two sets of figures stand in one table only where their conditions are equal.

    Raises:
        MixedConditionsError: naming every condition that differs.

    """
    left, right = first.model_dump(mode="json"), other.model_dump(mode="json")
    differing = [
        f"{name}: {left.get(name)} and {right.get(name)}"
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name)
    ]
    if differing:
        raise mixed(what, differing)


def mixed(what: str, differing: Iterable[str]) -> MixedConditionsError:
    """The refusal, with its evidence."""
    return MixedConditionsError(
        f"{what}: measured under different conditions, so they do not go in one table",
        evidence=tuple(differing),
        hint="run the pipeline again with one configuration and one store",
    )


def refuse_mixed_inputs(run: RunRecords) -> None:
    """Every record must have been made from what the plan says it is made from.

    Raises:
        MixedConditionsError: naming the record and the input.

    """
    for step in run.plan.steps:
        record = run.records.get(step.key)
        if record is not None:
            for name, wanted in step.inputs.items():
                _refuse_other_input(run, (step.key, name), record=record, wanted=wanted)


def _refuse_other_input(
    run: RunRecords, at: tuple[str, str], *, record: StepRecord, wanted: Input
) -> None:
    key, name = at
    expected = _identity(run, wanted)
    got = record.inputs.get(name)
    found = None if got is None else got.digest
    if expected is not None and found != expected:
        recorded = "nothing" if found is None else found[:SHOWN]
        raise mixed(
            f"figures of {key}",
            [f"its {name!r} was {recorded}, where this plan has {expected[:SHOWN]}"],
        )


def _identity(run: RunRecords, source: Input) -> str | None:
    if isinstance(source, Leaf):
        return source.digest
    record = run.records.get(source.step)
    return None if record is None else record.fingerprint


def refuse_mixed_measurements(
    run: RunRecords, *, reference: PerplexityResult, build_id: str
) -> None:
    """Every measurement must have the reference's cut of the text, and its binaries.

    Raises:
        MixedConditionsError: naming the record and what differs.

    """
    cuts = {"kld": reference}
    chosen_on = run.result(REFERENCE, PerplexityResult)
    if chosen_on is not None:
        cuts[KLD] = chosen_on
    for key, record in run.records.items():
        kind = key.partition("/")[0]
        if kind in ("kld", "bench", "tasks", KLD, REFERENCE):
            compared = [("BuildId", record.made_by_id, build_id)]
            if kind in cuts:
                compared += _cuts(run.needed_result(key, KldResult), cuts[kind])
            _refuse_unequal(key, compared)


def _cuts(result: KldResult, reference: PerplexityResult) -> list[tuple[str, str, str]]:
    return [
        ("n_ctx", str(result.n_ctx), str(reference.n_ctx)),
        ("n_chunks", str(result.n_chunks), str(reference.n_chunks)),
    ]


def _refuse_unequal(key: str, compared: list[tuple[str, str, str]]) -> None:
    differing = [
        f"{name}: {key} has {found}, the reference {expected}"
        for name, found, expected in compared
        if found != expected
    ]
    if differing:
        raise mixed(f"figures of {key}", differing)
