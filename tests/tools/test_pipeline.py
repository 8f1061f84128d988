"""The whole line from the command line, with the real binaries, on the demo model."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llamacpp_pipeline.engine.journal import NAME, read_journal
from llamacpp_pipeline.report.plots.pictures import can_draw
from llamacpp_pipeline.toolchain.binaries import Toolchain
from tests.unit.report.numbers import unexplained_numbers

pytestmark = [pytest.mark.tools, pytest.mark.timeout(600)]

PROGRAM = Path(sys.executable).parent / "llamacpp-pipeline"
CONFIG = """
model: {demo: true, name: small}
convert: {pre_tokenizer: qwen35}
evaluation: {corpus: {demo: evaluation}, n_ctx: 128, n_chunks: 12}
calibration: {corpus: {demo: calibration}, n_ctx: 128, n_chunks: 8}
variants:
  - Q8_0
  - Q4_K_M
  - {name: Q4_K_M-selective, ftype: Q4_K_M,
     tensor_types: {'\\.attn_(gate|qkv)\\.weight$': q8_0, '\\.ssm_out\\.weight$': q8_0}}
bench: {tests: [pp32, tg4], repetitions: 1}
card: {compare: [{variant: Q4_K_M-selective, against: Q4_K_M, against_label: plain}]}
"""


@dataclass(frozen=True)
class Place:
    """A folder with a config, a store and a result folder."""

    folder: Path

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def command(self, verb: str, *more: str) -> list[str]:
        where = ("--config", self.folder / "small.yaml", "--store", self.folder / "store")
        return [str(part) for part in (PROGRAM, verb, *where, "--out", self.out, *more)]

    def run(
        self, verb: str, *more: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(verb, *more),
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **(environment or {})},
        )

    def results(self) -> Any:  # noqa: ANN401  JSON
        return json.loads((self.out / "results.json").read_text())

    def events(self, kind: str) -> list[str]:
        return [line["step"] for line in read_journal(self.out / NAME) if line["event"] == kind]

    def digests(self) -> dict[str, str]:
        return {
            str(file.relative_to(self.out)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(self.out.rglob("*"))
            if file.is_file() and file.name != NAME
        }


def new_place(folder: Path) -> Place:
    (folder / "small.yaml").write_text(CONFIG)
    return Place(folder)


@pytest.fixture(scope="module")
def done(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A run from an empty store, with the user's shell full of variables that must not matter."""
    del toolchain
    place = new_place(tmp_path_factory.mktemp("pipeline"))
    ran = place.run("run", environment={"LLAMA_ARG_CTX_SIZE": "64", "LLAMA_ARG_CHUNKS": "1"})
    assert ran.returncode == 0, ran.stderr
    return place


def test_the_folder_could_be_uploaded(done: Place) -> None:
    names = {file.name for file in done.out.iterdir()}

    ggufs = {f"small-{v}.gguf" for v in ("Q8_0", "Q4_K_M", "Q4_K_M-selective", "imatrix")}
    assert names == ggufs | {"plots", "README.md", "manifest.json", "results.json", NAME}
    assert (done.out / "plots" / "kld-size.csv").read_text().count("\n") == 4
    for name in ("README.md", "manifest.json", "results.json", NAME):
        text = (done.out / name).read_text()
        assert str(done.folder) not in text
        assert str(Path.home()) not in text


def test_the_page_is_whole(done: Place) -> None:
    card = (done.out / "README.md").read_text()
    body = card.partition("\n---\n")[2]

    assert unexplained_numbers(body, (done.out / "results.json").read_text()) == []
    assert re.findall(r"\b(None|nan|NaN|inf|Undefined)\b", body) == []
    assert re.search(r"^## .*\n+(## |\Z)", body, re.MULTILINE) is None  # no empty section
    beside = re.findall(r'(?:\]\(|src="|srcset=")(plots/[^")]+)', body)
    assert len(beside) >= (4 if can_draw() else 0)
    assert [name for name in beside if not (done.out / name).is_file()] == []


def test_every_figure_is_there_and_in_order(done: Place) -> None:
    variants = {v["label"]: v for v in done.results()["variants"]}

    kld = {label: v["quality"]["mean_kld"]["value"] for label, v in variants.items()}
    assert 0 < kld["Q8_0"] < kld["Q4_K_M-selective"] < kld["Q4_K_M"]
    assert all({row["test"] for row in v["speed"]} == {"pp32", "tg4"} for v in variants.values())
    card = (done.out / "README.md").read_text()
    assert "| KLD metric | plain | this |" in card


def test_variables_of_the_shell_do_not_reach_a_measurement(done: Place) -> None:
    conditions = done.results()["conditions"]

    assert (conditions["n_ctx"], conditions["n_chunks"]) == (128, 12)


def by_hand(toolchain: Toolchain, tool: str, *arguments: object, folder: Path) -> str:
    """What the same binary prints when a person calls it."""
    ran = subprocess.run(
        [toolchain.bin_dir / tool, *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    return ran.stdout


def reference_of(place: Place) -> Path:
    """The unquantized GGUF in the store."""
    records = (place.folder / "store" / "objects").rglob("record.json")
    stages = {json.loads(record.read_text())["stage"]: record.parent for record in records}
    return stages["convert"] / "model.gguf"


def test_perplexity_and_divergence_are_those_of_a_call_by_hand(
    done: Place, toolchain: Toolchain, tmp_path: Path
) -> None:
    corpus = next((done.folder / "store" / "texts").rglob("demo-evaluation.txt"))
    reference, cut = reference_of(done), ("-c", 128, "-b", 2048, "-ub", 512)
    base = by_hand(
        toolchain, "llama-perplexity", "-m", reference, "-f", corpus, "--no-escape", *cut,
        "--chunks", 12, "--kl-divergence-base", "base.kld", folder=tmp_path,
    )  # fmt: skip
    against = by_hand(
        toolchain, "llama-perplexity", "-m", done.out / "small-Q4_K_M.gguf", *cut,
        "--kl-divergence", "--kl-divergence-base", "base.kld", folder=tmp_path,
    )  # fmt: skip

    found = done.results()
    ppl = re.search(r"Final estimate: PPL = ([\d.]+) \+/- ([\d.]+)", base)
    assert ppl is not None
    assert found["reference"]["ppl"] == {"value": float(ppl[1]), "stderr": float(ppl[2])}
    q4 = next(v for v in found["variants"] if v["label"] == "Q4_K_M")["quality"]
    mean = re.search(r"Mean    KLD:\s+([\d.]+) ±\s+([\d.]+)", against)
    top = re.search(r"Same top p:\s+([\d.]+) ±\s+([\d.]+)", against)
    assert mean is not None
    assert top is not None
    assert q4["mean_kld"] == {"value": float(mean[1]), "stderr": float(mean[2])}
    assert q4["same_top_p"] == {"value": float(top[1]), "stderr": float(top[2])}


def test_bits_per_weight_and_bytes_are_those_of_a_call_by_hand(
    done: Place, toolchain: Toolchain, tmp_path: Path
) -> None:
    made = {"imatrix": done.out / "small-imatrix.gguf", "model": reference_of(done)}
    for name, file in made.items():
        link = tmp_path / "in" / name / f"{name}.gguf"
        link.parent.mkdir(parents=True)
        link.symlink_to(file)
    log = by_hand(
        toolchain, "llama-quantize", "--imatrix", "in/imatrix/imatrix.gguf",
        "in/model/model.gguf", "model.gguf", "Q4_K_M", folder=tmp_path,
    )  # fmt: skip

    printed = re.search(r"quant size\s+=\s+[\d.]+ MiB \(([\d.]+) BPW\)", log)
    assert printed is not None
    q4 = next(v for v in done.results()["variants"] if v["label"] == "Q4_K_M")
    assert round(q4["size"]["bpw"], 2) == float(printed[1])
    assert hashlib.sha256((tmp_path / "model.gguf").read_bytes()).hexdigest() == q4["sha256"]


def test_a_second_run_does_nothing_and_says_so(done: Place) -> None:
    before = done.digests()

    ran = done.run("run")

    assert ran.returncode == 0
    assert "nothing to do" in ran.stderr
    assert done.events("started") == []
    assert done.digests() == before


def test_a_changed_parameter_runs_only_what_depends_on_it(done: Place) -> None:
    ran = done.run("plan", "--format", "json", "--set", "calibration.n_chunks=9")

    todo = {
        step["step"]: step["why"] for step in json.loads(ran.stdout)["steps"] if not step["hit"]
    }
    assert todo["imatrix"] == ["params.n_chunks: 8 -> 9"]
    made = {f"{kind}/{v}" for kind in ("quantize", "kld", "bench") for v in VARIANTS}
    assert todo.keys() == {"imatrix"} | made


VARIANTS = ("Q8_0", "Q4_K_M", "Q4_K_M-selective")


def test_a_corrupt_entry_is_made_again(toolchain: Toolchain, done: Place) -> None:
    del toolchain
    model = reference_of(done)
    model.chmod(0o644)
    with model.open("r+b") as file:
        file.truncate(1000)

    ran = done.run("run")

    assert ran.returncode == 0, ran.stderr
    assert "corrupt" in ran.stderr
    assert len(done.events("started")) == 1


def test_a_killed_run_goes_on_after_its_last_finished_step(
    toolchain: Toolchain, tmp_path: Path
) -> None:
    del toolchain
    place = new_place(tmp_path)
    process = subprocess.Popen(place.command("run"), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and "reference" not in started(place):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()

    ran = place.run("run")

    assert ran.returncode == 0, ran.stderr
    assert {"inspect", "weights", "convert"} <= set(place.events("hit"))


def started(place: Place) -> list[str]:
    try:
        return place.events("started")
    except FileNotFoundError:
        return []


@pytest.mark.timeout(3000)
def test_wikitext_goes_through_the_demo_model(
    toolchain: Toolchain, tmp_path: Path, shared_data: Path
) -> None:
    del toolchain
    place = new_place(tmp_path)
    corpus = shared_data / "wikitext2.wiki.test.raw"
    whole = ("evaluation.n_chunks=null", "evaluation.n_ctx=256", "bench=null")
    sets = [f"evaluation.corpus={{path: {corpus}}}", *whole, "variants=[Q4_K_M]"]
    sets.append("card.compare=[]")

    ran = place.run("run", "--only", "reference", *(p for v in sets for p in ("--set", v)))

    assert ran.returncode == 0, ran.stderr
    found = place.results()
    assert found["conditions"]["corpus"]["label"] == corpus.name
    assert found["conditions"]["n_chunks"] > 1000
    assert found["reference"]["ppl"]["value"] > 1
