"""The loop of a refinement, over a model whose divergences are written down."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

import pytest

from llamacpp_pipeline.errors import InputError
from llamacpp_pipeline.stages.curves import Curves
from llamacpp_pipeline.stages.probe_lines import Measurement
from llamacpp_pipeline.stages.refine_loop import halves
from llamacpp_pipeline.stages.refine_record import RefineResult
from llamacpp_pipeline.stages.refine_tools import Allocation, Bench, Types
from llamacpp_pipeline.stages.refining import Limits, Refinement, Texts
from llamacpp_pipeline.stages.target_plan import WrittenPlan

SIZES = {"q3_K": 100, "q4_K": 150, "q5_K": 200}
TRUE = {
    "a": {"q3_K": 0.10, "q4_K": 0.040, "q5_K": 0.010},
    "b": {"q3_K": 0.08, "q4_K": 0.035, "q5_K": 0.012},
}
WRONG = {"a": {"q3_K": 0.03, "q4_K": 0.02, "q5_K": 0.005}, "b": TRUE["b"]}
BUDGET = 300
CHUNKS = (0.9, 1.1, 1.0, 1.05, 0.95)


def choose(divergence: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """The best pair of types within the budget."""
    pairs = [{"a": a, "b": b} for a in SIZES for b in SIZES if SIZES[a] + SIZES[b] <= BUDGET]
    return min(pairs, key=lambda pair: sum(divergence[t][k] for t, k in pair.items()))


class WrittenBench:
    """Stands for the two tools: allocates and measures what is written down."""

    def __init__(self, scratch: Path, *, prior: Mapping[str, Mapping[str, float]]) -> None:
        self.scratch = scratch
        self.prior = prior
        self.n_chunks = len(CHUNKS)
        self.out_of_time = False
        self.true = TRUE
        self.backgrounds: list[str] = []

    def allocate(self, weights: Path, name: str) -> Allocation:
        given = json.loads(weights.read_text())["tensors"]
        known = {t: d["divergence"] for t, d in given.items()} or self.prior
        types = choose(known)
        tensors = [
            {
                "name": name,
                "status": "chosen",
                "type": kind,
                "source_type": "f16",
                "bytes": SIZES[kind],
                "elements": 200,
                "alpha": 1.0,
                "alpha_source": "given",
                "error": known[name][kind],
                "curve": [
                    {"type": k, "bytes": n, "rho": 0.1, "error": known[name][k], "measured": True}
                    for k, n in SIZES.items()
                ],
            }
            for name, kind in types.items()
        ]
        plan = PLAN | {"tensors": tensors}
        types_file = self.scratch / f"{name}.types"
        types_file.write_text(json.dumps(types))
        return Allocation(
            weights=weights,
            plan=WrittenPlan.model_validate(plan),
            curves=Curves.model_validate(plan),
            types_file=types_file,
        )

    def measure(
        self,
        wanted: Iterable[tuple[str, Types]],
        text: Path,
        *,
        n_chunks: int,
        background: Path | None = None,
        minutes: float | None = None,
    ) -> tuple[Measurement, dict[str, Measurement]]:
        del minutes
        under = {} if background is None else json.loads(background.read_text())
        if background is not None:
            self.backgrounds.append(background.name)
        n = min(n_chunks or self.n_chunks, self.n_chunks)
        found = {
            name: self.measured({**under, **types}, f"{text.name}{under}{types}", n)
            for name, types in wanted
        }
        floor = self.measured(under, f"{text.name}{under}", n)
        return floor, {} if self.out_of_time and background else found

    def measured(self, types: Types, key: str, n: int) -> Measurement:
        kld = sum(self.true[name][kind] for name, kind in types.items())
        return Measurement(
            key=key,
            id="",
            hold="native",
            tensors=dict(types),
            relative_error={},
            n_ctx=64,
            n_chunks=n,
            n_tokens=32 * n,
            kld=kld,
            kld_stderr=0.01 * kld,
            kld_p999=10 * kld,
            same_top=90.0,
            chunk_kld=tuple(kld * factor for factor in CHUNKS[:n]),
            seconds=1.0,
        )


PLAN = {
    "format": "llama-quant-bpw-plan",
    "version": 1,
    "bpw": 4.5,
    "elements": 400,
    "tensor_bytes": 300,
    "file_bytes": 400,
    "budget_bytes": 300,
    "min_bytes": 200,
    "max_bytes": 400,
    "file_type": 15,
    "objective": 0.1,
    "dual_bound": 0.1,
    "gap": 0.0,
    "optimal": True,
    "rounds": 1,
    "measured": 6,
    "reused": 0,
}


def refined(
    bench: WrittenBench,
    *,
    measured: Mapping[str, Mapping[str, float]],
    scatter: float = 0.2,
    held_out: bool = False,
    rounds: int = 3,
) -> RefineResult:
    weights = bench.scratch / "measured.json"
    document = {name: {"alpha": 1.0, "divergence": dict(d)} for name, d in measured.items()}
    weights.write_text(json.dumps({"tensors": document}))
    refinement = Refinement(
        bench=cast("Bench", bench),
        texts=Texts(probe=Path("probe"), validation=Path("validation"), held_out=held_out),
        limits=Limits(rounds=rounds, n_chunks=4, validation_chunks=5, minutes=None),
        known={name: dict.fromkeys(SIZES, scatter) for name in TRUE},
    )
    return refinement.result(refinement.run(weights))


def test_a_wrong_curve_is_found_out_at_the_solution(tmp_path: Path) -> None:
    bench = WrittenBench(tmp_path, prior=WRONG)
    result = refined(bench, measured=WRONG, scatter=3.0)
    assert [mix.name for mix in result.mixes] == ["prior", "measured", "round 1"]
    assert result.kept == "round 1"
    best = sum(TRUE[name][kind] for name, kind in choose(TRUE).items())
    assert result.mixes[-1].kld.value == pytest.approx(best)
    assert result.mixes[1].kld.value > best
    gain = result.rounds[0].gain
    assert gain is not None
    assert gain.value == pytest.approx(result.mixes[1].kld.value - best)
    assert bench.backgrounds[0] == "measured.types"


def test_what_leads_to_the_same_types_ends_it(tmp_path: Path) -> None:
    result = refined(WrittenBench(tmp_path, prior=WRONG), measured=TRUE, scatter=3.0)
    assert result.stopped == "same-types"
    assert result.kept == "measured"
    assert result.rounds[0].gain is None
    assert result.rounds[0].agreement == pytest.approx(1.0, rel=0.02)  # four chunks of five


def test_nothing_is_measured_again_where_no_decision_is_close(tmp_path: Path) -> None:
    bench = WrittenBench(tmp_path, prior=WRONG)
    result = refined(bench, measured=TRUE, scatter=0.01)
    assert result.stopped == "nothing-close"
    assert result.rounds == ()
    assert bench.backgrounds == []


def test_the_prior_is_kept_where_measuring_misled(tmp_path: Path) -> None:
    result = refined(WrittenBench(tmp_path, prior=TRUE), measured=WRONG, scatter=0.01)
    assert result.kept == "prior"
    kept, other = result.mixes
    assert kept.to_kept is None
    assert other.to_kept is not None
    assert other.to_kept.value > 0


def test_without_time_for_a_measurement_what_there_is_counts(tmp_path: Path) -> None:
    bench = WrittenBench(tmp_path, prior=WRONG)
    bench.out_of_time = True
    result = refined(bench, measured=WRONG, scatter=3.0)
    assert result.stopped == "time"
    assert result.kept in {"prior", "measured"}


def test_a_text_that_was_all_measured_on_decides_nothing(tmp_path: Path) -> None:
    bench = WrittenBench(tmp_path, prior=WRONG)
    bench.n_chunks = 3  # in half of the text; four were measured
    with pytest.raises(InputError, match="none are left to decide on") as caught:
        refined(bench, measured=WRONG, held_out=True)
    assert "selection.corpus" in (caught.value.hint or "")


def test_a_text_is_parted_between_two_lines(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"one\ntwo\nthree\nfour\n")
    both = halves(text, tmp_path)
    assert both.held_out
    assert both.probe.read_bytes() + both.validation.read_bytes() == text.read_bytes()
    assert both.probe.read_bytes() == b"one\ntwo\nthree\n"


def test_a_text_of_one_line_cannot_be_parted(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"one line\n")
    with pytest.raises(InputError, match="no lines to part"):
        halves(text, tmp_path)
