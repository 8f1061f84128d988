"""llama-kld-probe: the divergence of single quantized tensors, without a file for each."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFWriter

from tests.tools.tiny_llama import TinyLlama, write_gguf

pytestmark = [pytest.mark.tools, pytest.mark.timeout(300)]

N_CTX, N_CHUNKS = 64, 8
DENSE = TinyLlama(n_layers=2)
EXPERTS = TinyLlama(n_layers=1, n_experts=4)
CUT = ("-c", str(N_CTX), "--chunks", str(N_CHUNKS), "-t", "1", "--fit", "off")
DOWN, QUERY = "blk.0.ffn_down.weight", "blk.1.attn_q.weight"
DOWN_EXPERTS = "blk.0.ffn_down_exps.weight"
# KLD of a file that has just this tensor quantized, against the probe's. `native` differs by how
# llama.cpp lays the weights out; `dequantized` also lacks the CPU's 8-bit activations.
NATIVE, DEQUANTIZED = 0.02, 0.10

Line = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Ran:
    code: int
    output: str


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A folder with a model, an imatrix of it and a text, and the binaries to work on them."""

    bin: Path
    folder: Path

    def run(self, tool: str, *arguments: str | Path) -> Ran:
        done = subprocess.run(
            [self.bin / tool, *arguments],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
        )
        return Ran(code=done.returncode, output=done.stdout.decode("utf-8", errors="replace"))

    def command(self, *more: str, results: str = "results.jsonl") -> list[str]:
        given = ("-m", "model.gguf", "-f", "text.txt", "--imatrix", "imatrix.gguf")
        return [str(self.bin / "llama-kld-probe"), *given, *CUT, "--results", results, *more]

    def probe(self, *more: str, results: str = "results.jsonl") -> list[Line]:
        """The lines of a run that has to succeed, the floor's first."""
        ran = self.run("llama-kld-probe", *self.command(*more, results=results)[1:])
        assert ran.code == 0, ran.output
        return lines_of(self.folder / results)

    def refusal(self, *more: str) -> str:
        """What a run that has to fail says."""
        ran = self.run("llama-kld-probe", *self.command(*more)[1:])
        assert ran.code == 1, ran.output
        return next(line for line in ran.output.splitlines() if "probe: error: " in line)

    def plan(self, measurements: Sequence[Mapping[str, str]]) -> tuple[str, str]:
        text = "".join(
            json.dumps({"id": str(at), "tensors": dict(tensors)}) + "\n"
            for at, tensors in enumerate(measurements)
        )
        (self.folder / "plan.jsonl").write_text(text, encoding="utf-8")
        return ("--plan", "plan.jsonl")

    def kld_of_file(self, types: Mapping[str, str]) -> tuple[float, float]:
        """Mean KLD and same-top-p of a file with these tensors quantized, the rest as it was."""
        rules = [f"^{name}$={kind}".replace(".", r"\.") for name, kind in types.items()]
        flags = [word for rule in (*rules, ".=f16") for word in ("--tensor-type", rule)]
        made = ("--imatrix", "imatrix.gguf", *flags, "model.gguf", "one.gguf", "Q8_0", "1")
        assert self.run("llama-quantize", *made).code == 0
        base = ("--kl-divergence-base", "base.kld", "--no-warmup")
        if not (self.folder / "base.kld").is_file():
            self.run("llama-perplexity", "-m", "model.gguf", "-f", "text.txt", *CUT, *base)
        log = self.run("llama-perplexity", "-m", "one.gguf", *CUT, "--kl-divergence", *base).output
        mean = re.search(r"Mean\s+KLD:\s+([\d.]+)", log)
        same = re.search(r"Same top p:\s+([\d.]+)", log)
        assert mean, log
        assert same, log
        return float(mean[1]), float(same[1])


def lines_of(path: Path) -> list[Line]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def binaries(request: pytest.FixtureRequest) -> Path:
    """LLAMACPP_PIPELINE_BIN names another build's folder, for work on the patch itself."""
    other = os.environ.get("LLAMACPP_PIPELINE_BIN")
    return Path(other) if other else Path(request.getfixturevalue("toolchain_bin"))


def prepared(binaries: Path, folder: Path, shape: TinyLlama) -> Bench:
    write_gguf(shape, folder / "model.gguf", half=True)
    write_imatrix(shape, folder / "imatrix.gguf")
    text = Path(argparse.__file__).read_bytes()[: N_CTX * N_CHUNKS + 100]
    (folder / "text.txt").write_bytes(text)
    return Bench(bin=binaries, folder=folder)


def write_imatrix(shape: TinyLlama, path: Path) -> None:
    """What llama-imatrix writes, of inputs that nobody measured."""
    draw = np.random.default_rng(7)
    writer = GGUFWriter(path, "imatrix")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["text.txt"])
    writer.add_uint32("imatrix.chunk_count", 4)
    writer.add_uint32("imatrix.chunk_size", 64)
    for name, weight in shape.weights().items():
        if not name.startswith("blk.") or weight.ndim < 2 or "gate_inp" in name:
            continue
        n_experts = weight.shape[0] if weight.ndim == 3 else 1
        counts = np.full((n_experts, 1), 256, np.float32)
        squares = np.exp(draw.standard_normal((n_experts, weight.shape[-1]))) * counts
        writer.add_tensor(f"{name}.in_sum2", squares.astype(np.float32))
        writer.add_tensor(f"{name}.counts", counts)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def dense(binaries: Path, tmp_path: Path) -> Bench:
    return prepared(binaries, tmp_path, DENSE)


@pytest.fixture
def experts(binaries: Path, tmp_path: Path) -> Bench:
    return prepared(binaries, tmp_path, EXPERTS)


@pytest.mark.parametrize(
    ("bench", "types"),
    [
        pytest.param("dense", {DOWN: "iq3_s"}, id="one-tensor"),
        pytest.param("dense", {DOWN: "q4_K", QUERY: "q2_K"}, id="two-at-once"),
        pytest.param("dense", {"token_embd.weight": "q3_K"}, id="embeddings"),
        pytest.param("experts", {DOWN_EXPERTS: "iq2_xxs"}, id="experts-with-their-own-imatrix"),
    ],
)
def test_a_measurement_is_that_of_a_file_with_just_those_tensors_quantized(
    request: pytest.FixtureRequest, bench: str, types: dict[str, str]
) -> None:
    here: Bench = request.getfixturevalue(bench)
    kld, same_top = here.kld_of_file(types)
    for how, tolerance in (("native", NATIVE), ("dequantized", DEQUANTIZED)):
        line = here.probe(*here.plan([types]), "--hold", how, results=f"{how}.jsonl")[-1]
        assert line["tensors"] == types
        assert line["kld"] == pytest.approx(kld, rel=tolerance), how
        assert line["same_top"] == pytest.approx(same_top, abs=2.5), how


@pytest.mark.parametrize("how", ["native", "dequantized"])
def test_the_model_is_as_it_was_after_each_measurement(dense: Bench, how: str) -> None:
    plan = [{DOWN: "q2_K"}, {QUERY: "q2_K"}, {DOWN: "q2_K", QUERY: "q4_K"}]
    together = dense.probe(*dense.plan(plan), "--hold", how, results="all.jsonl")
    alone = dense.probe(*dense.plan(plan[1:2]), "--hold", how, results="alone.jsonl")
    assert together[2]["chunk_kld"] == alone[1]["chunk_kld"]
    assert together[0]["tensors"] == {}
    assert abs(together[0]["kld"]) < 1e-7  # nothing replaced: nothing diverges


def test_the_figures_of_a_line_belong_together(dense: Bench) -> None:
    line = dense.probe(*dense.plan([{DOWN: "q2_K"}]))[-1]
    assert line["n_tokens"] == N_CHUNKS * (N_CTX - 1 - N_CTX // 2)
    assert len(line["chunk_kld"]) == line["n_chunks"] == N_CHUNKS
    assert math.fsum(line["chunk_kld"]) / N_CHUNKS == pytest.approx(line["kld"])
    assert 0 < line["kld_stderr"] < line["kld"] < line["kld_p999"] <= line["kld_max"]
    assert 0 < line["relative_error"][DOWN] < 0.2


def test_sixteen_bits_of_the_reference_are_llama_perplexitys_file(dense: Bench) -> None:
    exact = dense.probe(*dense.plan([{DOWN: "q2_K"}]), results="32.jsonl")[-1]
    short = dense.probe(*dense.plan([{DOWN: "q2_K"}]), "--reference-bits", "16")[-1]
    assert short["kld"] == pytest.approx(exact["kld"], rel=1e-2)
    assert short["kld"] != exact["kld"]


def test_every_tensor_at_each_type_or_in_groups(dense: Bench) -> None:
    each = dense.probe("--types", "q4_K,q8_0", results="each.jsonl")
    assert len(each) == 1 + 2 * (2 + 2 * 7)  # the floor; embeddings, head and seven a layer
    groups = dense.probe("--types", "q8_0", "--bands", "1", results="groups.jsonl")
    assert [len(line["tensors"]) for line in groups] == [0, 1, 1, *[2] * 7]
    of_two = next(line for line in groups if line["id"] == "ffn_down.weight of band 1/1")
    single = [at for at in each if set(at["tensors"]) <= set(of_two["tensors"])]
    alone = [at["kld"] for at in single if "q8_0" in at["tensors"].values()]
    assert of_two["kld"] == pytest.approx(sum(alone), rel=0.5)


def test_rows_that_do_not_fit_get_what_llama_quantize_gives_them(
    binaries: Path, tmp_path: Path
) -> None:
    narrow = TinyLlama(n_layers=1, n_ff=288)
    bench = prepared(binaries, tmp_path, narrow)
    line = bench.probe(*bench.plan([{DOWN: "q4_K"}]))[-1]
    assert line["tensors"] == {DOWN: "q5_0"}
    assert line["asked"] == {DOWN: "q4_K"}


def test_around_a_background_one_tensor_goes_one_type_up_or_down(dense: Bench) -> None:
    (dense.folder / "types.txt").write_text(r"^blk\.0\.=q4_K .=q6_K", encoding="utf-8")
    around = ("--types", "q3_K,q4_K,q5_K,q6_K,q8_0", "--background", "types.txt", "--neighbours")
    found = dense.probe(*around, "--hold", "native")
    assert {line["tensors"].get(DOWN) for line in found} == {None, "q3_K", "q5_K"}
    assert {line["tensors"].get(QUERY) for line in found} == {None, "q5_K", "q8_0"}
    names = [name for name, weight in DENSE.weights().items() if weight.ndim > 1]
    file = {name: "q4_K" if name.startswith("blk.0.") else "q6_K" for name in names}
    assert found[0]["kld"] == pytest.approx(dense.kld_of_file(file)[0], rel=NATIVE)
    lower = next(line for line in found if line["tensors"] == {DOWN: "q3_K"})
    assert lower["kld"] == pytest.approx(dense.kld_of_file({**file, DOWN: "q3_K"})[0], rel=NATIVE)
    assert lower["kld"] > found[0]["kld"]


def test_what_is_there_is_not_measured_again(dense: Bench) -> None:
    first = dense.probe(*dense.plan([{DOWN: "q2_K"}, {QUERY: "q2_K"}]))
    results = dense.folder / "results.jsonl"
    whole = results.read_bytes()
    results.write_bytes(whole[:-40])  # torn by a crash
    again = dense.run("llama-kld-probe", *dense.command("--plan", "plan.jsonl")[1:])
    assert again.code == 0
    assert "3 measurements, 2 of them reused" in again.output
    assert "1 damaged lines" in again.output
    kept = results.read_text(encoding="utf-8").splitlines()
    assert json.loads(kept[-1])["chunk_kld"] == first[-1]["chunk_kld"]
    other = dense.run("llama-kld-probe", *dense.command("--plan", "plan.jsonl", "-c", "32")[1:])
    assert "0 of them reused" in other.output, "another cut is another measurement"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_whole_lines_and_goes_on_from_them(
    dense: Bench, number: signal.Signals
) -> None:
    log = dense.folder / "log"
    with log.open("wb") as out:
        command = dense.command("--types", "q2_K,q3_K,q4_K,q5_K,q6_K,q8_0")
        child = subprocess.Popen(command, cwd=dense.folder, stdout=out, stderr=out)
        while b"(3 of " not in log.read_bytes() and child.poll() is None:
            time.sleep(0.01)
        child.send_signal(number)
        assert child.wait() == 128 + number, log.read_text()
    assert "the same command goes on from there" in log.read_text()
    before = lines_of(dense.folder / "results.jsonl")
    assert 3 <= len(before) < 97
    after = dense.probe("--types", "q2_K,q3_K,q4_K,q5_K,q6_K,q8_0")
    assert len(after) == 97
    assert after[: len(before)] == before
    assert len({line["key"] for line in after}) == 97


def test_precision_saves_chunks_and_minutes_measurements(dense: Bench) -> None:
    rough = ("--batch-size", str(2 * N_CTX), "--precision", "0.9")
    assert dense.probe(*dense.plan([{DOWN: "q2_K"}]), *rough)[-1]["n_chunks"] == 4
    brief = ("--types", "q2_K,q4_K", "--minutes", "0.000001")
    ran = dense.run("llama-kld-probe", *dense.command(*brief, results="brief.jsonl")[1:])
    assert ran.code == 0
    assert re.search(r"out of time: \d+ of 33 measurements are missing", ran.output)
    assert len(lines_of(dense.folder / "brief.jsonl")) >= 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        pytest.param(("--types", "q9_K"), "'q9_K' is no type", id="unknown-type"),
        pytest.param((), "give --plan or --types", id="nothing-to-measure"),
        pytest.param(("--types", "q4_K", "--bands", "-1"), "not a positive number", id="number"),
        pytest.param(("--types", "q4_K", "--hold", "both"), "dequantized or native", id="choice"),
        pytest.param(("--types", "q4_K", "--neighbours"), "--background", id="neighbours"),
        pytest.param(("--types", "q4_K", "--imatrix", "text.txt"), "imatrix", id="imatrix"),
        pytest.param(("--types", "q4_K", "-c", "1024"), "two chunks of 1024", id="short-text"),
        pytest.param(("--types", "q4_K", "--results", "text.txt"), "something else", id="results"),
        pytest.param(("--types", "q4_K", "--plan", "none"), "give --plan or --types", id="both"),
        pytest.param(("--plan", "text.txt"), "line 1 is not of the form", id="no-plan"),
    ],
)
def test_mistakes_are_refused(dense: Bench, more: tuple[str, ...], message: str) -> None:
    before = (dense.folder / "text.txt").read_bytes()
    assert message in dense.refusal(*more)
    assert (dense.folder / "text.txt").read_bytes() == before


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        pytest.param({"blk.7.attn_q.weight": "q4_K"}, "no tensor 'blk.7.attn_q.weight'", id="name"),
        pytest.param({"blk.0.attn_norm.weight": "q4_K"}, "would quantize", id="kept-tensor"),
        pytest.param({"output.weight": "iq2_xxs"}, "needs an imatrix that has", id="no-imatrix"),
        pytest.param({DOWN: "f32"}, "is no type", id="type"),
        pytest.param({}, "no tensors", id="nothing"),
    ],
)
def test_a_plan_that_cannot_be_measured_is_refused(
    dense: Bench, tensors: dict[str, str], message: str
) -> None:
    assert message in dense.refusal(*dense.plan([tensors]))


def test_a_quantized_model_is_no_reference(dense: Bench) -> None:
    made = dense.run("llama-quantize", "model.gguf", "small.gguf", "Q8_0", "1")
    assert made.code == 0
    assert "is already quantized (q8_0)" in dense.refusal("--types", "q4_K", "-m", "small.gguf")


def test_a_model_in_several_files_is_read_from_all_of_them(dense: Bench) -> None:
    whole = dense.probe(*dense.plan([{QUERY: "q2_K"}]))[-1]
    cut = ("--split", "--split-max-tensors", "6", "model.gguf", "part")
    assert dense.run("llama-gguf-split", *cut).code == 0
    first = next(iter(sorted(dense.folder.glob("part-00001-of-*.gguf")))).name
    parts = dense.probe("--plan", "plan.jsonl", "-m", first, results="parts.jsonl")[-1]
    assert parts["chunk_kld"] == whole["chunk_kld"]
    assert parts["key"] == whole["key"]
