"""The loop of a refinement: allocate, validate, measure again where it is close.

It ends where that brings nothing more. A mix of types is put into the loaded model by
llama-kld-probe, so no file is written before the mix is chosen. What decides is the mean KLD on the
validation text, which nothing was measured on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llamacpp_pipeline.allocate.frontier import Option
from llamacpp_pipeline.allocate.refinement import (
    Step,
    Tensor,
    agreement,
    close_steps,
    remeasured,
    step_value,
)
from llamacpp_pipeline.allocate.sensitivity import SCATTER, paired
from llamacpp_pipeline.errors import InputError
from llamacpp_pipeline.stages import own_tool
from llamacpp_pipeline.stages.probe_lines import Measurement
from llamacpp_pipeline.stages.refine_record import (
    MEASURED,
    PRIOR,
    Mix,
    RefineResult,
    Round,
    Stopped,
)
from llamacpp_pipeline.stages.refine_tools import Allocation, Bench, Types
from llamacpp_pipeline.stages.sensitivity import SensitivityResult
from llamacpp_pipeline.units import Estimate

LEAST_ERROR = 0.05  # relative, of a measured divergence: they add up no better
NOT_ALONE = 0.6  # relative error of a divergence that was shared out, or is the prior's
SIGNIFICANT = 2.0  # standard errors that a gain must exceed for another round


@dataclass(frozen=True, kw_only=True)
class Texts:
    """What is measured on, and what is decided on."""

    probe: Path
    validation: Path
    held_out: bool  # two halves of one text


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How far to go."""

    rounds: int
    n_chunks: int  # of the probe; 0 for the whole text
    validation_chunks: int
    minutes: float | None


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A mix and what it was measured to diverge."""

    name: str
    allocation: Allocation
    measured: Measurement  # on the validation text
    on_probe: Measurement


@dataclass(kw_only=True)
class Refinement:
    """The loop's state."""

    bench: Bench
    texts: Texts
    limits: Limits
    known: Mapping[str, Mapping[str, float]]  # tensor measured alone -> type -> relative error
    tried: list[Tried] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    seen: list[Measurement] = field(default_factory=list)
    reference_tokens: int = 0  # computed by the reference, once for each call of the probe

    def run(self, measured_weights: Path) -> Stopped:
        """All rounds; says why there are no more."""
        prior = self.bench.scratch / "prior.json"
        prior.write_text(json.dumps({"tensors": {}}), encoding="utf-8")
        first = {PRIOR: prior, MEASURED: measured_weights}
        self.try_out({name: self.bench.allocate(file, name) for name, file in first.items()})
        for number in range(1, self.limits.rounds + 1):
            stopped = self.round(number)
            if stopped is not None:
                return stopped
        return "rounds"

    def try_out(self, allocations: Mapping[str, Allocation]) -> None:
        """Measure mixes on both texts."""
        on_probe = self.whole(allocations, self.texts.probe, self.limits.n_chunks)
        n_chunks = min(one.n_chunks for one in on_probe.values())
        if self.texts.held_out and n_chunks < self.limits.n_chunks:
            raise InputError(
                f"half of the probe text has {n_chunks} chunks, and"
                f" {self.limits.n_chunks} were measured: none are left to decide on",
                hint="a longer text for `sensitivity.corpus`, fewer `sensitivity.n_chunks`,"
                " or a text to choose on: `selection.corpus`",
            )
        found = self.whole(allocations, self.texts.validation, self.limits.validation_chunks)
        for name, one in found.items():
            own_tool.note(f"refine: {name}: mean KLD {one.kld:.6f} on the validation text")
            self.tried.append(
                Tried(
                    name=name,
                    allocation=allocations[name],
                    measured=one,
                    on_probe=on_probe[name],
                )
            )

    def whole(
        self, allocations: Mapping[str, Allocation], text: Path, n_chunks: int
    ) -> dict[str, Measurement]:
        """What mixes diverge on a text."""
        wanted = [(name, allocation.types) for name, allocation in allocations.items()]
        floor, found = self.bench.measure(wanted, text, n_chunks=n_chunks)
        self.note(floor, found.values())
        return found

    def round(self, number: int) -> Stopped | None:
        """Marginal values at the present solution, and the solution that they lead to."""
        before = self.tried[-1]
        tensors = self.tensors(before.allocation)
        steps = close_steps(tensors)
        if not steps:
            return "nothing-close"
        marginal, n_chunks = self.marginal(before.allocation, steps, number)
        if not marginal:
            return "time"
        weights = self.bench.scratch / f"round{number}.json"
        weights.write_text(weights_text(before, tensors, marginal), encoding="utf-8")
        after = self.bench.allocate(weights, f"round{number}")
        told = Round(
            n_steps=len(marginal),
            n_missing=len(steps) - len(marginal),
            n_chunks=n_chunks,
            agreement=agreement(tensors, marginal),
            n_moved=sum(is_moved(tensors, key, found) for key, found in marginal.items()),
        )
        if any(after.key == one.allocation.key for one in self.tried):
            self.rounds.append(told)
            return "same-types"
        self.try_out({f"round {number}": after})
        gain = paired(before.measured.chunk_kld, self.tried[-1].measured.chunk_kld)
        self.rounds.append(told.model_copy(update={"gain": gain}))
        return "within-error" if gain.value < SIGNIFICANT * (gain.stderr or 0.0) else None

    def marginal(
        self, present: Allocation, steps: tuple[Step, ...], number: int
    ) -> tuple[dict[tuple[str, str], Estimate], int]:
        """What each step adds to the divergence of the whole mix, and on how many chunks."""
        names = {f"{step.tensor} {step.type}": (step.tensor, step.type) for step in steps}
        wanted = [(name, {tensor: kind}) for name, (tensor, kind) in names.items()]
        floor, found = self.bench.measure(
            wanted,
            self.texts.probe,
            n_chunks=self.limits.n_chunks << number,
            background=present.types_file,
            minutes=self.limits.minutes,
        )
        self.note(floor, found.values())
        values = {names[n]: paired(one.chunk_kld, floor.chunk_kld) for n, one in found.items()}
        return values, floor.n_chunks

    def tensors(self, allocation: Allocation) -> dict[str, Tensor]:
        """What each chosen tensor is and could be, by the sensitivities that chose it."""
        chosen = {t.name: t.type for t in allocation.plan.tensors if t.status == "chosen"}
        curves = allocation.curves.by_name
        return {
            name: Tensor(
                options=tuple(
                    Option(type=p.type, n_bytes=p.bytes, divergence=p.error or 0.0)
                    for p in curves[name].curve
                ),
                present=kind,
                scatter=SCATTER if name in self.known else NOT_ALONE,
                measured=self.known.get(name, {}),
            )
            for name, kind in chosen.items()
            if name in curves
        }

    def note(self, floor: Measurement, measurements: Iterable[Measurement]) -> None:
        """Count what one call of the probe measured, once."""
        self.reference_tokens += tokens_of(floor)
        known = {one.key: one for one in (*self.seen, floor, *measurements)}
        self.seen = list(known.values())

    def best(self) -> Tried:
        """The mix of least mean KLD on the validation text."""
        return min(self.tried, key=lambda one: one.measured.kld)

    def result(self, stopped: Stopped) -> RefineResult:
        """Everything found."""
        kept = self.best()
        last = self.tried[-1].measured
        return RefineResult(
            kept=kept.name,
            stopped=stopped,
            mixes=tuple(self.mix(at, kept) for at in range(len(self.tried))),
            rounds=tuple(self.rounds),
            held_out=self.texts.held_out,
            n_ctx=last.n_ctx,
            n_chunks=last.n_chunks,
            n_measurements=len(self.seen),
            seconds=sum(one.seconds for one in self.seen),
            computed_tokens=self.reference_tokens + sum(map(tokens_of, self.seen)),
        )

    def mix(self, at: int, kept: Tried) -> Mix:
        """One mix, and how far it is from the one before and from the one kept."""
        one = self.tried[at]
        types, before = one.allocation.types, self.tried[max(0, at - 1)].allocation.types
        measured = one.measured
        return Mix(
            name=one.name,
            bpw=one.allocation.plan.bpw,
            n_changed=n_different(types, before),
            predicted=one.allocation.plan.objective,
            on_probe=Estimate(value=one.on_probe.kld, stderr=one.on_probe.kld_stderr),
            kld=Estimate(value=measured.kld, stderr=measured.kld_stderr),
            kld_p999=measured.kld_p999,
            same_top=measured.same_top,
            to_kept=None if one is kept else paired(measured.chunk_kld, kept.measured.chunk_kld),
        )


def tokens_of(one: Measurement) -> int:
    """What was computed for it, scored or not."""
    return one.n_chunks * one.n_ctx


def n_different(types: Types, others: Types) -> int:
    """Tensors that have another type."""
    return sum(types.get(name) != others.get(name) for name in types.keys() | others.keys())


def is_moved(tensors: dict[str, Tensor], key: tuple[str, str], found: Estimate) -> bool:
    """Whether a measured step is told from the assumed one."""
    assumed = step_value(tensors[key[0]], key[1])
    return abs(found.value - assumed) > SIGNIFICANT * (found.stderr or 0.0)


def weights_text(
    before: Tried, tensors: dict[str, Tensor], marginal: dict[tuple[str, str], Estimate]
) -> str:
    """The file for --tensor-weights after a round: the divergence of every type."""
    plan = before.allocation.plan
    alphas = {tensor.name: tensor.alpha for tensor in plan.tensors}
    scale = before.on_probe.kld / plan.objective if plan.objective > 0 else 1.0
    document = {
        name: {
            "alpha": scale * (alphas[name] or 0.0),
            "divergence": {o.type: o.divergence for o in options if o.divergence > 0},
        }
        for name, options in remeasured(tensors, marginal, scale=scale).items()
    }
    return json.dumps({"tensors": document}, indent=1) + "\n"


def measured_alone(found: SensitivityResult) -> dict[str, dict[str, float]]:
    """The types that tensors were measured at, each alone, with the relative errors of that."""
    return {
        tensor.name: {
            m.type: relative_error(m.divergence) for m in tensor.measured if m.together == 1
        }
        for tensor in found.tensors
        if any(m.together == 1 for m in tensor.measured)
    }


def relative_error(divergence: Estimate) -> float:
    """Of a measured one; at least what additivity allows, at most all of it."""
    if divergence.value <= 0:
        return 1.0
    return min(1.0, max(LEAST_ERROR, (divergence.stderr or 0.0) / divergence.value))
