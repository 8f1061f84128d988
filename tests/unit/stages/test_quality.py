"""The size that a mean KLD takes, and the rules that bind it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from llamacpp_pipeline.allocate.frontier import Option
from llamacpp_pipeline.errors import InputError
from llamacpp_pipeline.stages.gguf_facts import GgufFacts, GgufTensor
from llamacpp_pipeline.stages.quality import KldBudget, kld_budget
from llamacpp_pipeline.stages.quantize_target import (
    TargetParams,
    TargetRules,
    plan_flags,
)
from llamacpp_pipeline.stages.sensitivity import (
    AssumedTensor,
    CurveAt,
    SensitivityResult,
    TensorSensitivity,
)
from llamacpp_pipeline.stages.target_asked import asked_of
from llamacpp_pipeline.stages.type_limits import allowed_of, pin_of
from llamacpp_pipeline.units import Estimate

N = 1024  # elements of each
NORM = 64  # bytes of what is never quantized
BITS = {"q3_K": 3.4375, "q4_K": 4.5, "q6_K": 6.5625, "q8_0": 8.5, "bf16": 16.0}
ERRORS = {"q3_K": 0.02, "q4_K": 0.004, "q6_K": 0.0003, "q8_0": 0.00002, "bf16": 0.0}
ALPHAS = {
    "token_embd.weight": 0.5,
    "blk.0.ffn_up.weight": 0.2,
    "blk.0.ffn_gate.weight": 0.1,
    "blk.1.ffn_up.weight": 0.05,
    "blk.1.ffn_gate.weight": 0.3,
}


def curve(alpha: float) -> tuple[CurveAt, ...]:
    return tuple(
        CurveAt(type=kind, bytes=round(bits * N / 8), divergence=alpha * ERRORS[kind])
        for kind, bits in BITS.items()
    )


def report(*, assumed: tuple[str, ...] = ()) -> SensitivityResult:
    measured = [name for name in ALPHAS if name not in assumed]
    return SensitivityResult(
        n_measurements=3,
        noise=0.0,
        floor=0.0,
        seconds=1.0,
        tensors=tuple(
            TensorSensitivity(
                name=name,
                layer=None,
                role="x",
                elements=N,
                alpha=Estimate(value=ALPHAS[name], stderr=0.01),
                prior=None,
                measured=(),
                curve=curve(ALPHAS[name]),
            )
            for name in measured
        ),
        not_measured=assumed,
        assumed=tuple(AssumedTensor(name=name, curve=curve(ALPHAS[name])) for name in assumed),
        prior_rank_correlation=None,
    )


def model(*names: str) -> GgufFacts:
    sizes = {**dict.fromkeys(names or ALPHAS, 2 * N), "output_norm.weight": NORM}
    tensors = tuple(
        GgufTensor(name=name, type="bf16", shape=(N,), n_elements=size // 2, n_bytes=size, offset=0)
        for name, size in sizes.items()
    )
    return GgufFacts(
        path=Path("bf16.gguf"), file_bytes=1, metadata={}, array_lengths={}, tensors=tensors
    )


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return save(tmp_path, report())


def save(folder: Path, found: SensitivityResult) -> Path:
    file = folder / "sensitivity.json"
    file.write_text(found.model_dump_json(), encoding="utf-8")
    return file


def budget(file: Path, kld: float, **rules: Any) -> KldBudget:  # noqa: ANN401  any rule
    return kld_budget(kld, rules=TargetRules(**rules), report=file, model=model())


def least_bytes(kld: float, *, types: tuple[str, ...] = tuple(BITS)) -> int:
    """By trying every mix."""
    options = [[c for c in curve(alpha) if c.type in types] for alpha in ALPHAS.values()]
    sizes = [
        sum(c.bytes for c in mix)
        for mix in itertools.product(*options)
        if sum(c.divergence for c in mix) <= kld
    ]
    return min(sizes) + NORM


@pytest.mark.parametrize("kld", [0.02, 0.005, 0.001, 0.0001])
def test_it_is_the_smallest_file_that_is_predicted_to_reach_it(written: Path, kld: float) -> None:
    found = budget(written, kld)
    assert found.tensor_bytes == least_bytes(kld)
    assert found.predicted <= kld
    assert found.least_bytes <= found.tensor_bytes
    assert (found.kld, found.n_assumed) == (kld, 0)


def test_what_was_not_measured_counts_by_the_prior(tmp_path: Path) -> None:
    file = save(tmp_path, report(assumed=("blk.1.ffn_gate.weight",)))
    found = budget(file, 0.005)
    assert found.tensor_bytes == least_bytes(0.005)
    assert found.n_assumed == 1


def test_a_type_set_binds(written: Path) -> None:
    found = budget(written, 0.001, type_set="kquants")
    assert found.tensor_bytes == least_bytes(0.001)  # the source's own type belongs to every set
    few = budget(written, 0.001, type_set="q4_k,q8_0")
    assert few.tensor_bytes == least_bytes(0.001, types=("q4_K", "q8_0", "bf16"))
    assert few.tensor_bytes > found.tensor_bytes


def test_pins_and_limits_bind(written: Path) -> None:
    free = budget(written, 0.005).tensor_bytes
    assert budget(written, 0.005, tensor_types={"ffn_gate": "q8_0"}).tensor_bytes > free
    assert budget(written, 0.005, tensor_types={"token": "q4_K"}).tensor_bytes >= free
    assert budget(written, 0.005, min_types={"ffn": "q8_0"}).tensor_bytes > free
    assert budget(written, 0.005, max_types={"token": "q4_K"}).tensor_bytes >= free
    assert budget(written, 0.005, same_type=("ffn_(gate|up)",)).tensor_bytes >= free


def test_a_layer_that_shares_its_type_has_one_in_common(written: Path) -> None:
    shared = budget(written, 0.004, same_type=("ffn_(gate|up)",))
    mixes = itertools.product(range(len(BITS)), repeat=3)  # embedding, layer 0, layer 1
    every = list(map(curve, ALPHAS.values()))
    groups = (every[:1], every[1:3], every[3:])
    best = min(
        sum(c[at].bytes for group, at in zip(groups, mix, strict=True) for c in group)
        for mix in mixes
        if sum(c[at].divergence for group, at in zip(groups, mix, strict=True) for c in group)
        <= 0.004
    )
    assert shared.tensor_bytes == best + NORM


def test_a_kld_that_no_mix_has_is_refused_with_the_range(written: Path) -> None:
    with pytest.raises(InputError, match=r"have 0 to 0\.023 nats") as caught:
        budget(written, 0.5)
    assert "within that range" in (caught.value.hint or "")
    with pytest.raises(InputError, match=r"a mean KLD of 0\.0001 cannot be asked for"):
        budget(written, 0.0001, max_types={"ffn": "q4_K"})
    with pytest.raises(InputError, match="no type of known divergence between"):
        budget(written, 0.01, min_types={"token": "q8_0"}, max_types={"token": "q4_K"})


def test_a_pin_to_a_type_that_is_not_known_is_charged_the_next_smaller_one() -> None:
    options = known()
    (pinned,) = allowed_of(TargetRules(), "a", options, pin="q5_K")
    assert (pinned.type, pinned.n_bytes) == ("q5_K", 5.5 * N / 8)
    assert pinned.divergence == ERRORS["q4_K"]
    with pytest.raises(InputError, match="a has no type of known divergence at iq1_s"):
        allowed_of(TargetRules(), "a", options, pin="iq1_s")


def known() -> tuple[Option, ...]:
    return tuple(Option(type=c.type, n_bytes=c.bytes, divergence=c.divergence) for c in curve(1.0))


@pytest.mark.parametrize(
    ("said", "name", "tied", "pin"),
    [
        pytest.param({}, "output.weight", False, None, id="nothing"),
        pytest.param({"output_tensor_type": "q6_K"}, "output.weight", False, "q6_K", id="head"),
        pytest.param({"output_tensor_type": "q6_K"}, "token_embd.weight", True, "q6_K", id="tied"),
        pytest.param(
            {"output_tensor_type": "q6_K"}, "token_embd.weight", False, None, id="not-tied"
        ),
        pytest.param(
            {"output_tensor_type": "q6_K", "tensor_types": {"token": "q4_K"}},
            "token_embd.weight", True, "q4_K", id="a-pattern-before-the-tie",
        ),
        pytest.param(
            {"token_embedding_type": "q8_0", "tensor_types": {"token": "q4_K"}},
            "token_embd.weight", True, "q8_0", id="its-own-flag-before-a-pattern",
        ),
        pytest.param(
            {"leave_output_tensor": True}, "output.weight", False, "as it is", id="left"
        ),
    ],
)  # fmt: skip
def test_what_pins_a_tensor(
    said: dict[str, Any],
    name: str,
    *,
    tied: bool,
    pin: str | None,
) -> None:
    assert pin_of(TargetRules(**said), name, tied=tied) == pin


def test_sensitivities_of_another_model_and_of_an_older_form_are_refused(
    written: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"is no tensor of bf16\.gguf"):
        kld_budget(0.01, rules=TargetRules(), report=written, model=model("token_embd.weight"))
    other = tmp_path / "other.json"
    other.write_text("{}")
    with pytest.raises(InputError, match="not of the form") as caught:
        budget(other, 0.01)
    assert "--rerun sensitivity" in (caught.value.hint or "")


def test_a_target_must_be_one_that_can_be_asked_for() -> None:
    for wrong in (0.0, -0.01, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="no mean KLD to ask for"):
            TargetParams(kld=wrong)
    with pytest.raises(ValueError, match="give one of"):
        TargetParams(kld=0.01, bpw=4)


def test_what_is_asked_of_the_tool_are_the_bits_of_that_mix(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("quantize_target", "target_asked"):
        name = f"llamacpp_pipeline.stages.{module}.read_gguf"
        monkeypatch.setattr(name, lambda _: model())
    asked = asked_of(TargetParams(kld=0.005), {"model": Path("m"), "sensitivities": written})
    assert (asked.kind, asked.size_bytes) == ("kld", None)
    assert asked.kld is not None
    assert asked.bpw is not None
    assert int(asked.bpw * model().n_elements / 8) == asked.kld.tensor_bytes == least_bytes(0.005)

    flags = plan_flags(TargetParams(kld=0.005), {"model": Path("m"), "sensitivities": written})
    assert flags[flags.index("--target-bpw") + 1] == repr(asked.bpw)  # what a refinement asks for
