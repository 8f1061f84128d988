"""Variants by size with the real binaries: kept to, made alike by hand, measured once, resumed."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llamacpp_pipeline.toolchain.binaries import Toolchain

pytestmark = [pytest.mark.tools, pytest.mark.timeout(600)]

PROGRAM = Path(sys.executable).parent / "llamacpp-pipeline"
CONFIG = """
model: {demo: true, name: small}
convert: {pre_tokenizer: qwen35}
evaluation: {corpus: {demo: evaluation}, n_ctx: 128, n_chunks: 8}
calibration: {corpus: {demo: calibration}, n_ctx: 128, n_chunks: 8}
variants:
  - Q4_K_M
  - {match: Q4_K_M, name: Q4_K}
  - {bpw: 3.5}
  - {size: 2MB, type_set: kquants, min_types: {token_embd: q6_K}}
bench: null
"""
SIGNALLED = {signal.SIGINT: 130, signal.SIGKILL: -signal.SIGKILL}


@dataclass(frozen=True)
class Place:
    folder: Path

    def command(self, verb: str, *more: str) -> list[str]:
        where = ("--config", "small.yaml", "--store", "store", "--out", "out")
        return [str(PROGRAM), verb, *where, *more]

    def run(self, *more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command("run", *more), cwd=self.folder, capture_output=True, text=True, check=False
        )

    @property
    def state(self) -> Path:
        """What all targets of the model share."""
        (found,) = (self.folder / "store" / "shared").glob("*/target.state")
        return found

    def row(self, label: str) -> Any:  # noqa: ANN401  JSON
        rows = json.loads((self.folder / "out" / "results.json").read_text())["variants"]
        return next(row for row in rows if row["label"] == label)

    def step(self, key: str) -> Any:  # noqa: ANN401  JSON
        steps = json.loads((self.folder / "out" / "manifest.json").read_text())["steps"]
        return next(step for step in steps if step["key"] == key)

    def entry(self, key: str) -> Path:
        """The folder of a step in the store."""
        objects = self.folder / "store" / "objects"
        (found,) = objects.glob(f"*/{self.step(key)['fingerprint']}")
        return found


@pytest.fixture(scope="module")
def done(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Place:
    del toolchain
    place = Place(tmp_path_factory.mktemp("sizes"))
    (place.folder / "small.yaml").write_text(CONFIG)
    ran = place.run()
    assert ran.returncode == 0, ran.stderr
    return place


def test_every_file_keeps_to_what_was_asked(done: Place) -> None:
    standard, matched = done.row("Q4_K_M")["size"], done.row("Q4_K")["size"]

    assert 0.999 * standard["tensor_bytes"] < matched["tensor_bytes"] <= standard["tensor_bytes"]
    assert 3.49 < done.row("3.5bpw")["size"]["bpw"] <= 3.5
    assert 1_990_000 < done.row("2MB")["size"]["file_bytes"] <= 2_000_000


def test_the_results_say_what_was_asked_reached_and_predicted(done: Place) -> None:
    matched = done.row("Q4_K")["allocation"]

    assert (matched["way"], matched["matched"]) == ("match", "Q4_K_M")
    assert matched["reached_bpw"] == done.row("Q4_K")["size"]["bpw"]
    assert 0 <= matched["gap"] < 0.01
    assert 0 < matched["dual_bound"] <= matched["objective"]
    assert {t["layer"] for t in matched["tensors"]} == {None, 0, 1, 2, 3}
    assert sum(t["error"] for t in matched["tensors"]) == pytest.approx(matched["objective"])
    card = (done.folder / "out" / "README.md").read_text()
    assert "bpw, as Q4\\_K\\_M" in card or "bpw, as Q4_K_M" in card


def test_pins_and_limits_hold(done: Place) -> None:
    limited = {t["name"]: t["type"] for t in done.row("2MB")["allocation"]["tensors"]}

    assert limited["token_embd.weight"] in {"q6_K", "q8_0", "f16"}
    assert set(limited.values()) <= {"q2_K", "q3_K", "q4_K", "q5_K", "q6_K", "q8_0", "f16"}


def test_it_is_better_than_the_mixture_of_the_same_bits(done: Place) -> None:
    kld = {v: done.row(v)["quality"]["mean_kld"]["value"] for v in ("Q4_K_M", "Q4_K")}

    assert kld["Q4_K"] < kld["Q4_K_M"]


def test_later_targets_reuse_what_earlier_ones_measured(done: Place) -> None:
    found = [done.row(v)["allocation"] for v in ("Q4_K", "3.5bpw", "2MB")]

    assert found[0]["reused"] == 0
    assert all(later["reused"] > 0 for later in found[1:])
    assert found[0]["measured"] > found[1]["measured"] > found[2]["measured"]
    assert str(done.folder) not in (done.folder / "out" / "results.json").read_text()


def test_the_same_command_by_hand_makes_the_same_file(
    done: Place, toolchain: Toolchain, tmp_path: Path
) -> None:
    folder, command = done.entry("quantize/Q4_K"), done.step("quantize/Q4_K")["command"]
    made = {"model": done.entry("convert"), "imatrix": done.entry("imatrix")}
    for name, entry in made.items():
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / f"{name}.gguf").symlink_to(entry / f"{name}.gguf")
    (tmp_path / "shared").mkdir()

    subprocess.run(
        [toolchain.bin_dir / command[0], *command[1:]],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )

    assert digest(tmp_path / "model.gguf") == digest(folder / "model.gguf")
    assert (tmp_path / "types.txt").read_text() == (folder / "types.txt").read_text()


@pytest.mark.parametrize("how", SIGNALLED, ids=lambda how: signal.Signals(how).name)
def test_an_interrupted_search_goes_on_from_what_it_had_measured(
    done: Place, tmp_path: Path, how: signal.Signals
) -> None:
    place = Place(tmp_path / "copy")
    shutil.copytree(done.folder, place.folder)
    expected = done.row("Q4_K")["sha256"]
    state = place.state
    state.unlink()

    process = subprocess.Popen(
        place.command("run", "--rerun", "quantize/Q4_K"),
        cwd=place.folder,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    wait_for(lambda: measured(state) > 8)
    process.send_signal(how)
    assert process.wait() == SIGNALLED[how]
    before = measured(state)
    assert before > 8

    ran = place.run("--rerun", "quantize/Q4_K")

    assert ran.returncode == 0, ran.stderr
    assert place.row("Q4_K")["sha256"] == expected
    after, whole = (each.row("Q4_K")["allocation"] for each in (place, done))
    assert after["reused"] >= before - 1  # the last line may be torn
    assert after["measured"] + after["reused"] == whole["measured"]


def test_a_file_for_a_memory_leaves_room_for_its_context(done: Place, tmp_path: Path) -> None:
    place = Place(tmp_path / "copy")
    shutil.copytree(done.folder, place.folder)
    fit = "{memory: 16MB, context: 512, kv_type: q8_0}"
    sets = (f"variants=[{{name: small-memory, fit: {fit}}}]", "memory={contexts: [512, 4096]}")

    ran = place.run(*(word for text in sets for word in ("--set", text)))

    assert ran.returncode == 0, ran.stderr
    row = place.row("small-memory")
    budget, needs = row["allocation"]["fit"], {n["n_ctx"]: n for n in row["memory"]}
    parts = budget["context_bytes"] + budget["compute_bytes"] + budget["file_bytes"]
    assert parts == budget["memory_bytes"] == 16_000_000
    assert 0.99 * budget["file_bytes"] < row["size"]["file_bytes"] <= budget["file_bytes"]
    assert needs[512]["total_bytes"] < needs[4096]["total_bytes"]
    assert all(need["weights_bytes"] == row["size"]["tensor_bytes"] for need in row["memory"])


def measured(state: Path) -> int:
    return state.read_bytes().count(b"\nrho ") if state.exists() else 0


def wait_for(condition: Any) -> None:  # noqa: ANN401
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not condition():
        time.sleep(0.01)


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_size_that_cannot_be_reached_says_what_can(done: Place, tmp_path: Path) -> None:
    place = Place(tmp_path / "copy")
    shutil.copytree(done.folder, place.folder)

    ran = place.run("--set", "variants=[{bpw: 0.5, name: tiny}]")

    assert ran.returncode == 1, ran.stderr
    assert "cannot be reached: with these candidate types" in ran.stderr
    assert "ask for a size within that range" in ran.stderr
    assert list((place.folder / "store" / "staging").iterdir()) == []
