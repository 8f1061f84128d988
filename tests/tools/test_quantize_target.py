"""llama-quantize with a size target (patch 0004), on random weights: what it promises to do."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from tests.tools.quantizer import (
    CHEAP,
    EXPERTS,
    Entry,
    Make,
    chosen,
    maker,
    quantize_binary,
    rho,
    types,
    values,
    without_counts,
    write_imatrix,
)
from tests.tools.tiny_llama import Floats, TinyLlama

pytestmark = [pytest.mark.tools, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def binary(toolchain_bin: Path) -> Path:
    return quantize_binary(toolchain_bin)


@pytest.fixture
def make(binary: Path, tmp_path: Path) -> Make:
    return maker(binary, tmp_path)


@pytest.mark.parametrize("wanted", ["1MB", "0.9MiB", "1200001"])
def test_a_size_is_kept_to_the_byte_and_used(make: Make, wanted: str) -> None:
    quantizer = make()
    number = {"1MB": 1_000_000, "0.9MiB": int(0.9 * 2**20), "1200001": 1_200_001}[wanted]

    ran = quantizer.run(
        *("--imatrix", quantizer.imatrix, *CHEAP, "--target-size", wanted),
        *("--plan-file", "plan.json", quantizer.model, "out.gguf", "2"),
    )

    assert ran.code == 0, ran.output
    size = (quantizer.folder / "out.gguf").stat().st_size
    plan = json.loads((quantizer.folder / "plan.json").read_text(encoding="utf-8"))
    assert size == plan["file_bytes"]
    assert 0.99 * number < size <= number  # 17 tensors: the last bytes cannot always be used


def test_bits_per_weight_are_those_that_the_tool_prints(make: Make) -> None:
    quantizer = make()

    ran = quantizer.run(
        *("--imatrix", quantizer.imatrix, *CHEAP, "--target-bpw", "5.03"),
        *(quantizer.model, "out.gguf", "2"),
    )

    assert ran.code == 0, ran.output
    tensors = GGUFReader(quantizer.folder / "out.gguf").tensors
    held = sum(int(tensor.n_bytes) for tensor in tensors)
    bpw = 8 * held / sum(int(tensor.n_elements) for tensor in tensors)
    assert 5.0 < bpw <= 5.03
    assert f"({bpw:.2f} BPW)" in ran.output


def test_a_plain_run_reproduces_a_plan_bit_for_bit(make: Make) -> None:
    quantizer = make()
    given = ("--imatrix", "imatrix.gguf")
    planned = quantizer.run(
        *given, "--target-bpw", "4.2", "--plan-types", "types.txt", "model.gguf", "a.gguf", "Q4_K_S"
    )
    assert planned.code == 0, planned.output

    plain = quantizer.run(
        *given, "--tensor-type-file", "types.txt", "model.gguf", "b.gguf", "q4_k_s"
    )

    assert plain.code == 0, plain.output
    first, second = ((quantizer.folder / name).read_bytes() for name in ("a.gguf", "b.gguf"))
    assert first == second


def test_the_plan_is_the_same_on_any_number_of_threads(make: Make) -> None:
    quantizer = make()

    one, three = (quantizer.plan("--target-bpw", "5", threads=threads) for threads in (1, 3))

    assert one == three


def test_the_plan_counts_what_it_says(make: Make) -> None:
    plan = make().plan("--target-bpw", "5")

    assert plan["tensor_bytes"] == sum(tensor["bytes"] for tensor in plan["tensors"])
    assert plan["dual_bound"] <= plan["objective"] <= 1.05 * plan["dual_bound"]
    assert plan["objective"] == pytest.approx(sum(tensor["error"] for tensor in chosen(plan)))
    for tensor in chosen(plan):
        point = next(each for each in tensor["curve"] if each["type"] == tensor["type"])
        assert point["measured"]
        assert point["error"] == tensor["error"]


def test_no_other_choice_of_types_is_better(make: Make) -> None:
    """Every pair of tensors, and every pair of types for them, against what was chosen."""
    plan = make().plan("--target-bpw", "5", "--measure-all")
    spare = plan["budget_bytes"] - plan["tensor_bytes"]
    tensors = chosen(plan)
    for first in tensors:
        for second in tensors:
            if first["name"] >= second["name"]:
                continue
            now = first["error"] + second["error"]
            room = first["bytes"] + second["bytes"] + spare
            pairs = [(a, b) for a in first["curve"] for b in second["curve"]]
            best = min(a["error"] + b["error"] for a, b in pairs if a["bytes"] + b["bytes"] <= room)
            assert best >= now * (1 - 1e-9), (first["name"], second["name"])


def test_the_search_finds_what_measuring_everything_finds(make: Make) -> None:
    quantizer = make()

    searched = quantizer.plan("--target-bpw", "4.6")
    everything = quantizer.plan("--target-bpw", "4.6", "--measure-all")

    assert searched["measured"] < everything["measured"]
    assert searched["objective"] <= 1.01 * everything["objective"]


def test_a_state_file_serves_other_targets_and_survives_a_torn_tail(make: Make) -> None:
    quantizer = make()
    state = ("--state-file", "measured.state")
    fresh = quantizer.plan("--target-bpw", "5")
    first = quantizer.plan("--target-bpw", "5", *state)
    saved = quantizer.folder / "measured.state"
    lines = saved.read_bytes().splitlines(keepends=True)
    saved.write_bytes(b"".join(lines[:10]) + lines[10][:20])

    resumed = quantizer.plan("--target-bpw", "5", *state)
    again = quantizer.plan("--target-bpw", "5", *state)

    assert without_counts(fresh) == without_counts(first) == without_counts(resumed)
    assert resumed["reused"] == 9
    assert again["measured"] == 0


def test_another_imatrix_is_measured_anew(make: Make) -> None:
    quantizer = make()
    quantizer.plan("--target-bpw", "5", "--state-file", "measured.state")

    def louder(entries: dict[str, Entry]) -> None:
        entry = entries["blk.0.ffn_up.weight"]
        entry.squares[:, :50] *= 3

    write_imatrix(quantizer.shape, quantizer.imatrix, entries=louder)
    plan = quantizer.plan("--target-bpw", "5", "--state-file", "measured.state")

    assert 0 < plan["measured"] <= 5  # the one tensor's types


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_search_keeps_what_it_has(make: Make, number: signal.Signals) -> None:
    quantizer = make()
    command = (
        *(quantizer.binary, "--imatrix", "imatrix.gguf", "--target-bpw", "4", "--measure-all"),
        *("--type-set", "iq3_xxs,iq3_s,iq4_xs,q4_K"),
        *("--state-file", "measured.state", "--plan-only", "model.gguf", "1"),
    )
    with subprocess.Popen(command, cwd=quantizer.folder, stderr=subprocess.PIPE) as child:
        assert child.stderr is not None
        for line in child.stderr:
            if b"progress" in line and b" 0.0 %" not in line:
                child.send_signal(number)
                break
        rest = child.stderr.read().decode()
        code = child.wait()

    assert code == 128 + number
    assert "the same command goes on from there" in rest
    resumed = quantizer.run("--imatrix", "imatrix.gguf", *command[3:])
    assert resumed.code == 0, resumed.output
    assert "0 measurements found" not in resumed.output


def test_a_killed_search_goes_on_to_the_same_plan(make: Make) -> None:
    """SIGKILL in the middle of the measurements, then another number of threads."""
    quantizer = make()
    asked = ("--target-bpw", "4.4", "--type-set", "iq3_xxs,iq3_s,iq4_xs,q4_K,q6_K")
    state = quantizer.folder / "measured.state"
    command = (
        *(quantizer.binary, "--imatrix", "imatrix.gguf", *asked, "--measure-all"),
        *("--state-file", state, "--plan-only", "model.gguf", "1"),
    )
    with subprocess.Popen(command, cwd=quantizer.folder, stderr=subprocess.PIPE) as child:
        assert child.stderr is not None
        for line in child.stderr:
            if b"progress" in line and b" 0.0 %" not in line:
                break
        child.kill()
    assert child.returncode == -signal.SIGKILL
    saved = state.read_bytes().count(b"\nrho ")

    resumed = quantizer.plan(*asked, "--measure-all", "--state-file", state, threads=3)
    whole = quantizer.plan(*asked, "--measure-all", threads=1)

    assert without_counts(resumed) == without_counts(whole)
    assert resumed["reused"] >= saved > 0
    assert resumed["measured"] == whole["measured"] - resumed["reused"] > 0


def test_pins_are_kept_and_charged(make: Make) -> None:
    plan = make().plan(
        *("--target-bpw", "6", "--tensor-type", "ffn_down=q6_K", "--output-tensor-type", "q8_0"),
        *("--token-embedding-type", "q5_K"),
    )

    found = types(plan)
    assert found["output.weight"] == "q8_0"
    assert found["token_embd.weight"] == "q5_K"  # noqa: S105
    assert {found[f"blk.{layer}.ffn_down.weight"] for layer in (0, 1)} == {"q6_K"}
    assert plan["bpw"] <= 6
    pinned = [tensor["name"] for tensor in plan["tensors"] if tensor["status"] == "pinned"]
    assert len(pinned) == 4


def test_an_output_tensor_can_be_left_alone(make: Make) -> None:
    plan = make().plan("--target-bpw", "7", "--leave-output-tensor")

    assert types(plan)["output.weight"] == "f16"
    assert plan["bpw"] <= 7


def test_tensors_can_be_made_to_share_a_type(make: Make) -> None:
    plan = make().plan("--target-bpw", "5", "--same-type", r"attn_[qkv]\.")

    found = types(plan)
    for layer in (0, 1):
        assert len({found[f"blk.{layer}.attn_{kind}.weight"] for kind in "qkv"}) == 1


def test_types_can_be_limited(make: Make) -> None:
    plan = make().plan("--target-bpw", "5.5", "--min-type", "attn_=q5_K", "--max-type", "ffn_=q6_K")

    for tensor in chosen(plan):
        if "attn_" in tensor["name"]:
            assert tensor["bpw"] >= 5.5
        if "ffn_" in tensor["name"]:
            assert tensor["bpw"] <= 6.5626


def test_given_sensitivities_decide(make: Make) -> None:
    quantizer = make()
    weights = {tensor["name"]: 1.0 for tensor in chosen(quantizer.plan("--target-bpw", "5"))}
    weights |= {"blk.0.ffn_up.weight": 0.0, "blk.1.attn_k.weight": 1e6}
    saved = quantizer.folder / "weights.json"
    saved.write_text(json.dumps({"tensors": weights}), encoding="utf-8")

    plan = quantizer.plan("--target-bpw", "5", "--tensor-weights", saved)

    assert types(plan)["blk.0.ffn_up.weight"] == "q3_K"
    assert types(plan)["blk.1.attn_k.weight"] == "f16"
    assert {tensor["alpha_source"] for tensor in chosen(plan)} == {"given"}


def test_a_given_divergence_is_taken_for_its_type(make: Make) -> None:
    quantizer = make()
    given = {"alpha": 0.1, "divergence": {"q4_K": 0.25}}
    saved = quantizer.folder / "weights.json"
    saved.write_text(json.dumps({"tensors": {"blk.0.ffn_up.weight": given}}), encoding="utf-8")

    plan = quantizer.plan("--target-bpw", "5", "--tensor-weights", saved, "--measure-all")

    tensor = next(each for each in plan["tensors"] if each["name"] == "blk.0.ffn_up.weight")
    errors = {point["type"]: point["error"] for point in tensor["curve"]}
    rhos = {point["type"]: point["rho"] for point in tensor["curve"]}
    assert errors["q4_K"] == 0.25
    assert errors["q6_K"] == pytest.approx(0.1 * rhos["q6_K"])


def test_rho_is_the_relative_energy_of_the_output_error(make: Make) -> None:
    """Against the file that llama-quantize writes, computed in numpy."""
    quantizer = make()
    plan = quantizer.plan("--target-bpw", "5", "--measure-all")
    name = "blk.1.ffn_down.weight"
    ran = quantizer.run(
        "--imatrix",
        "imatrix.gguf",
        "--tensor-type",
        f"{name}=q4_K",
        "model.gguf",
        "q.gguf",
        "Q4_K_S",
    )
    assert ran.code == 0, ran.output

    before, after = (values(quantizer.folder / each, name) for each in ("model.gguf", "q.gguf"))
    energies = values(quantizer.imatrix, f"{name}.in_sum2").ravel() / 100
    energies = np.minimum(energies, 3 * np.sort(energies)[(len(energies) - 1) * 99 // 100])
    expected = (((after - before) ** 2) @ energies).sum() / ((before**2) @ energies).sum()

    tensor = next(each for each in plan["tensors"] if each["name"] == name)
    point = next(each for each in tensor["curve"] if each["type"] == "q4_K")
    assert point["rho"] == pytest.approx(expected, rel=1e-4)


def test_experts_count_by_use_and_unused_ones_not_at_all(make: Make) -> None:
    """Expert 3 was never routed to, and is the only one that is easy to quantize."""
    name = "blk.0.ffn_up_exps.weight"

    def easy(weights: dict[str, Floats]) -> None:
        weights[name][3] = np.sign(weights[name][3]) / 16

    def unused(entries: dict[str, Entry]) -> None:
        entries[name].counts[3] = 0
        entries[name].squares[3] = 0

    quantizer = make(EXPERTS, easy, unused)
    ignored = rho(quantizer.plan("--target-bpw", "5"), name)
    write_imatrix(EXPERTS, quantizer.imatrix, entries=None)
    counted = rho(quantizer.plan("--target-bpw", "5"), name)

    assert counted["q4_K"] < 0.9 * ignored["q4_K"]


def test_experts_of_which_none_was_used_count_alike(make: Make) -> None:
    name = "blk.0.ffn_up_exps.weight"

    def silent(entries: dict[str, Entry]) -> None:
        entries[name].counts[:] = 0
        entries[name].squares[:] = 0

    quantizer = make(EXPERTS, None, silent)
    ran = quantizer.run(
        "--imatrix", "imatrix.gguf", *CHEAP, "--target-bpw", "5", "--plan-only", "model.gguf"
    )

    assert ran.code == 0, ran.output
    assert "saw no token in any expert" in ran.output


def test_without_an_imatrix_no_type_is_chosen_that_needs_one(make: Make) -> None:
    plan = make().plan("--target-bpw", "4.6", "--type-set", "all", imatrix=False)

    offered = {point["type"] for tensor in chosen(plan) for point in tensor["curve"]}
    assert {"iq3_s", "q4_K"} <= offered
    blocks = [tensor for tensor in chosen(plan) if tensor["name"].startswith("blk.")]
    of_blocks = {point["type"] for tensor in blocks for point in tensor["curve"]}
    assert not of_blocks & {"iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs"}


def test_a_missing_entry_is_said_and_narrows_the_choice(make: Make) -> None:
    def lose(entries: dict[str, Entry]) -> None:
        del entries["blk.0.attn_q.weight"]

    quantizer = make(entries=lose)
    ran = quantizer.run(
        *("--imatrix", "imatrix.gguf", "--type-set", "iq2_s,q4_K,q6_K", "--target-bpw", "5"),
        *("--plan-only", "--plan-file", "plan.json", "model.gguf"),
    )

    assert ran.code == 0, ran.output
    assert "no imatrix entry for 1 of 16 tensors (first: blk.0.attn_q.weight)" in ran.output
    plan = json.loads((quantizer.folder / "plan.json").read_text(encoding="utf-8"))
    assert "iq2_s" not in rho(plan, "blk.0.attn_q.weight")
    assert "iq2_s" in rho(plan, "blk.0.attn_k.weight")


def test_an_entry_of_another_shape_is_refused(make: Make) -> None:
    def cut(entries: dict[str, Entry]) -> None:
        old = entries["blk.0.attn_q.weight"]
        entries["blk.0.attn_q.weight"] = Entry(squares=old.squares[:, :128], counts=old.counts)

    said = make(entries=cut).refusal("--target-bpw", "5", "model.gguf", "out.gguf")

    assert "imatrix entry 'blk.0.attn_q.weight' has 128 values, the tensor needs 256" in said


def test_rows_that_few_types_fit(make: Make) -> None:
    """ffn_down has rows of 288 = 9 * 32 values, and rows of 272 fit no type at all."""
    plan = make(TinyLlama(n_layers=1, n_ff=288)).plan("--target-bpw", "7")
    offered = set(rho(plan, "blk.0.ffn_down.weight"))
    assert offered == {"q8_0", "f16"}

    plan = make(TinyLlama(n_layers=1, n_ff=272)).plan("--target-bpw", "10")
    assert types(plan)["blk.0.ffn_down.weight"] == "f16"


def test_a_type_set_that_fits_no_row_is_widened(make: Make) -> None:
    quantizer = make(TinyLlama(n_layers=1, n_ff=288))
    ran = quantizer.run(
        *("--imatrix", "imatrix.gguf", "--type-set", "q4_K,q6_K", "--target-bpw", "6"),
        *("--plan-only", "--plan-file", "plan.json", "model.gguf"),
    )

    assert ran.code == 0, ran.output
    assert "the type set has no type that fits 1 tensor(s)" in ran.output
    plan = json.loads((quantizer.folder / "plan.json").read_text(encoding="utf-8"))
    assert {"q4_0", "q5_0", "q8_0"} <= set(rho(plan, "blk.0.ffn_down.weight"))


def test_zeros_take_the_smallest_type(make: Make) -> None:
    def empty(weights: dict[str, Floats]) -> None:
        weights["blk.0.ffn_up.weight"][:] = 0
        weights["blk.1.ffn_up.weight"][::2] = 0

    plan = make(change=empty).plan("--target-bpw", "5")

    assert types(plan)["blk.0.ffn_up.weight"] == "q3_K"
    assert set(rho(plan, "blk.0.ffn_up.weight").values()) == {0.0}
    assert 0 < rho(plan, "blk.1.ffn_up.weight")["q4_K"] < 0.1


def test_a_value_that_is_not_finite_is_named(make: Make) -> None:
    def damage(weights: dict[str, Floats]) -> None:
        weights["blk.0.attn_q.weight"][3, 5] = np.nan

    said = make(change=damage).refusal("--target-bpw", "5", "model.gguf", "out.gguf")

    assert "tensor 'blk.0.attn_q.weight' holds a value that is not finite" in said
    assert "row 3, column 5" in said


def test_a_quantized_source_is_refused_at_once(make: Make) -> None:
    quantizer = make()
    quantizer.run("model.gguf", "q8.gguf", "Q8_0")

    said = quantizer.refusal("--target-bpw", "5", "q8.gguf", "out.gguf")

    assert "is already quantized (q8_0)" in said
    assert "--allow-requantize" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("--target-bpw", "nan"), "'nan' is not a positive number", id="nan"),
        pytest.param(("--target-bpw", "-1"), "'-1' is not a positive number", id="negative"),
        pytest.param(("--target-bpw", "4,5"), "'4,5' is not a number", id="comma"),
        pytest.param(("--target-bpw", "400"), "for a size in bytes use --target-size", id="huge"),
        pytest.param(("--target-size", "many"), "'many' is not a number", id="words"),
        pytest.param(("--target-size", "4GG"), "unknown unit 'GG'", id="unit"),
        pytest.param(("--target-size",), "--target-size needs a value", id="no-value"),
        pytest.param(("--target-bpw", "1"), "cannot be reached: with these", id="too-small"),
        pytest.param(("--target-bpw", "4", "--target-size", "1GB"), "not both", id="both"),
        pytest.param(("--target-bpw", "4", "--pure"), "--pure asks for one type", id="pure"),
        pytest.param(("--target-bpw", "4", "--prune-layers", "1"), "--prune-layers", id="prune"),
        pytest.param(("--plan-file", "p.json"), "without --target-bpw or --target", id="stray"),
        pytest.param(("--type-set", "q9_K"), "unknown type 'q9_K'", id="type"),
        pytest.param(("--type-set", "q8_K"), "nothing can be quantized to 'q8_K'", id="inner-type"),
        pytest.param(("--same-type", "ffn_("), "'ffn_(' is not a valid pattern", id="pattern"),
        pytest.param(("--min-type", "ffn"), "'ffn' should be PATTERN=TYPE", id="rule"),
        pytest.param(
            ("--target-bpw", "5", "--min-type", "k=q6_K", "--max-type", "k=q4_K"),
            "no type is left between the given minimum and maximum",
            id="empty-range",
        ),
        pytest.param(
            (
                *("--target-bpw", "5", "--same-type", r"attn_[qk]\."),
                *("--tensor-type", "attn_q=q4_K", "--tensor-type", "attn_k=q6_K"),
            ),
            "its tensors are pinned to different types",
            id="torn-group",
        ),
        pytest.param(
            ("--target-bpw", "5", "--tensor-weights", "nowhere.json"),
            "cannot open 'nowhere.json'",
            id="weights",
        ),
        pytest.param(
            ("--target-bpw", "5", "--state-file", "nowhere/measured.state"),
            "cannot write the state file",
            id="state",
        ),
    ],
)
def test_what_cannot_be_done_is_said(make: Make, arguments: Sequence[str], said: str) -> None:
    quantizer = make()

    refusal = quantizer.refusal(*arguments, *(() if len(arguments) == 1 else ("model.gguf", "o")))

    assert said in refusal
    assert not (quantizer.folder / "o").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("{", "is not of the form", id="json"),
        pytest.param('{"tensors": {"blk.0.ffn_up.weight": -1}}', "zero or more", id="negative"),
        pytest.param('{"tensors": {"blk.9.ffn_up.weight": 1}}', "no tensor 'blk.9", id="unknown"),
    ],
)
def test_unusable_sensitivities_are_refused(make: Make, text: str, said: str) -> None:
    quantizer = make()
    (quantizer.folder / "weights.json").write_text(text, encoding="utf-8")

    refusal = quantizer.refusal(
        "--target-bpw", "5", "--tensor-weights", "weights.json", "model.gguf", "o"
    )

    assert said in refusal


@pytest.mark.parametrize("option", ["--state-file", "--plan-file", "--plan-types"])
def test_no_option_overwrites_a_model(make: Make, option: str) -> None:
    """`--state-file model.gguf out.gguf`: the option's value was forgotten."""
    quantizer = make()
    before = quantizer.model.read_bytes()
    other = quantizer.folder / "other.gguf"
    other.write_bytes(before)

    said = quantizer.refusal("--target-bpw", "5", option, "other.gguf", "model.gguf", "out.gguf")

    assert "other.gguf" in said
    assert other.read_bytes() == before


def test_a_target_beyond_the_model_takes_the_largest_types(make: Make) -> None:
    quantizer = make()
    ran = quantizer.run(
        "--imatrix", "imatrix.gguf", *CHEAP, "--target-bpw", "30", "--plan-only", "model.gguf"
    )

    assert ran.code == 0, ran.output
    assert "more than the model can use" in ran.output
