"""Sensitivities measured and used with the real binaries, on the (hybrid) demo model."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from llamacpp_pipeline.stages.gguf_facts import read_gguf
from llamacpp_pipeline.stages.probe_lines import read_measurements
from llamacpp_pipeline.stages.quantize import TENSOR_TYPES
from llamacpp_pipeline.toolchain.binaries import Toolchain
from tests.tools.test_pipeline import PROGRAM, Place

pytestmark = [pytest.mark.tools, pytest.mark.timeout(600)]

CONFIG = """
model: {demo: true, name: small}
convert: {pre_tokenizer: qwen35}
evaluation: {corpus: {demo: evaluation}, n_ctx: 128, n_chunks: 8}
calibration: {corpus: {demo: calibration}, n_ctx: 128, n_chunks: 8}
sensitivity: {corpus: {demo: probe}, n_ctx: 128, n_chunks: 4, types: [q4_K], refine: null}
variants:
  - Q4_K_M
  - {name: measured, bpw: 4.5, type_set: kquants}
  - {name: prior, bpw: 4.5, type_set: kquants, sensitivity: prior}
  - {kld: [0.003, 0.01]}
  - name: bound
    kld: 0.01
    type_set: kquants
    tensor_types: {token_embd: q8_0}
    same_type: ['ffn_(gate|up)']
    max_types: {ssm_out: q6_K}
bench: null
tasks: null
"""


@pytest.fixture(scope="module")
def done(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A run from an empty store."""
    del toolchain
    folder = tmp_path_factory.mktemp("sensitivity")
    (folder / "small.yaml").write_text(CONFIG)
    place = Place(folder)
    ran = place.run("run")
    assert ran.returncode == 0, ran.stderr
    return place


def test_every_tensor_that_can_be_quantized_is_measured(done: Place) -> None:
    facts = done.results()["sensitivity"]
    assert facts["n_measurements"] == len(facts["tensors"]) + 1
    assert facts["not_measured"] == []
    assert facts["shared_with_evaluation"] < 0.01
    assert abs(facts["floor"]) < 1e-6
    assert 0.5 < facts["prior_rank_correlation"] < 1
    for tensor in facts["tensors"]:
        measured = [at for at in tensor["types"] if at["measured"] is not None]
        assert [at["type"] for at in measured] == ["q4_K"]
        assert measured[0]["divergence"] == pytest.approx(measured[0]["measured"]["value"])
        assert {at["type"] for at in tensor["types"]} <= set(TENSOR_TYPES)


def test_the_variant_is_made_with_them_and_the_other_with_the_prior(done: Place) -> None:
    rows = {row["label"]: row["allocation"] for row in done.results()["variants"]}
    assert rows["Q4_K_M"] is None
    assert rows["measured"]["alpha_sources"] == ["given"]
    assert rows["prior"]["alpha_sources"] == ["prior"]
    alphas = {t["name"]: t["alpha"]["value"] for t in done.results()["sensitivity"]["tensors"]}
    for tensor in rows["measured"]["tensors"]:
        assert tensor["alpha"] == pytest.approx(alphas[tensor["name"]])


def test_divergences_nearly_add_up(done: Place) -> None:
    row = next(row for row in done.results()["variants"] if row["label"] == "measured")
    measured = row["quality"]["mean_kld"]["value"]
    assert row["allocation"]["objective"] == pytest.approx(measured, rel=0.6)  # another text


def test_a_quality_is_reached_as_predicted_and_no_larger_than_it_must_be(done: Place) -> None:
    rows = {row["label"]: row for row in done.results()["variants"]}
    for label, kld in (("kld0.003", 0.003), ("kld0.01", 0.01), ("bound", 0.01)):
        found = rows[label]["allocation"]
        assert (found["way"], found["kld"]["asked"]) == ("kld", kld)
        assert 0.97 * kld < found["kld"]["predicted"] <= kld * (1 + 1e-9)
        # llama-quantize's own solver, of those bytes, agrees that they are enough
        assert found["objective"] <= found["kld"]["predicted"] * (1 + 1e-6)
        assert found["kld"]["least_bytes"] <= found["kld"]["tensor_bytes"]
        assert found["kld"]["least_bytes"] > 0.99 * found["kld"]["tensor_bytes"]
        assert rows[label]["size"]["tensor_bytes"] <= found["kld"]["tensor_bytes"]
        measured = rows[label]["quality"]["mean_kld"]["value"]
        assert measured == pytest.approx(kld, rel=0.6)  # another text
    assert rows["kld0.003"]["size"]["file_bytes"] > rows["kld0.01"]["size"]["file_bytes"]
    assert rows["bound"]["size"]["file_bytes"] > rows["kld0.01"]["size"]["file_bytes"]


def test_a_quality_out_of_reach_is_refused_with_the_range(
    done: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = Place(tmp_path_factory.mktemp("out-of-reach"))
    (place.folder / "small.yaml").write_text(CONFIG.replace("[0.003, 0.01]", "5"))
    (place.folder / "store").symlink_to(done.folder / "store")
    ran = place.run("run", "--only", "quantize/kld5")
    assert ran.returncode == 1
    assert "a mean KLD of 5 cannot be asked for" in ran.stderr
    assert "ask for one within that range" in ran.stderr


def test_every_file_is_predicted_from_the_types_that_it_has(done: Place) -> None:
    document = done.results()
    found = {one["label"]: one for one in document["sensitivity"]["predictions"]}
    assert list(found) == [row["label"] for row in document["variants"]]
    for row in document["variants"]:
        stored = {t.name: t.type for t in read_gguf(done.out / row["file"]).tensors}
        assert row["tensors"]
        assert row["tensors"].items() <= stored.items()
        one = found[row["label"]]
        assert one["measured"] == row["quality"]["mean_kld"]
        assert one["predicted"] == pytest.approx(one["measured"]["value"], rel=0.6)  # another text
    price = document["sensitivity"]["price"]
    assert price["n_tokens"] == (document["sensitivity"]["n_measurements"] + 1) * 4 * 128


def test_what_was_measured_is_shown_with_its_price(done: Place) -> None:
    ran = subprocess.run(
        [PROGRAM, "sensitivity", "--results", done.out], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    facts = done.results()["sensitivity"]
    most = max(facts["tensors"], key=lambda tensor: tensor["alpha"]["value"])
    assert re.search(rf"^ +1  {re.escape(most['name'])} ", ran.stdout, re.MULTILINE)
    assert "of measuring divergences" in ran.stdout


def test_a_type_is_explained_and_the_curve_drawn(done: Place) -> None:
    name = done.results()["sensitivity"]["tensors"][0]["name"]
    for verb in (("explain", "measured", name), ("curve", "--kld", "0.01")):
        ran = subprocess.run(
            [PROGRAM, *verb, "--results", done.out], capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        assert "e-0" in ran.stdout or "0.0" in ran.stdout
    assert json.loads((done.out / "results.json").read_text())["sensitivity"] is not None


def test_a_probe_text_that_is_evaluated_on_is_refused_before_anything_runs(
    toolchain: Toolchain, tmp_path: Path
) -> None:
    del toolchain
    (tmp_path / "small.yaml").write_text(CONFIG.replace("demo: probe", "demo: evaluation"))
    ran = Place(tmp_path).run("run")
    assert ran.returncode == 2
    assert "figures would flatter" in ran.stderr


def test_a_killed_probe_goes_on_from_its_measurements(
    done: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """SIGKILL in the middle; what comes out is what a run that was let alone measured."""
    place = Place(tmp_path_factory.mktemp("killed"))
    (place.folder / "small.yaml").write_text(CONFIG)
    shutil.copytree(done.folder / "store", place.folder / "store", symlinks=True)
    whole = only_probe(place)
    expected = read_measurements(whole / "measurements.jsonl")
    shutil.rmtree(whole)
    shutil.rmtree(place.folder / "store" / "shared")
    (place.folder / "store" / "shared").mkdir()

    with subprocess.Popen(
        place.command("run", "--only", "probe"), stderr=subprocess.DEVNULL
    ) as process:
        while n_kept(place) < 5 and process.poll() is None:
            time.sleep(0.02)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    ran = place.run("run", "--only", "probe")

    assert ran.returncode == 0, ran.stderr
    assert only_probe(place).name == whole.name
    found = read_measurements(only_probe(place) / "measurements.jsonl")
    assert [(m.key, m.chunk_kld) for m in found] == [(m.key, m.chunk_kld) for m in expected]
    planned = re.search(
        r"probe: (\d+) measurements, (\d+) of them reused", (only_probe(place) / "log").read_text()
    )
    assert planned is not None
    assert int(planned[1]) == len(expected)
    assert 5 <= int(planned[2]) < len(expected)


def only_probe(place: Place) -> Path:
    """The folder of the probe's entry in the store."""
    (file,) = (place.folder / "store").glob("objects/*/*/measurements.jsonl")
    return file.parent


def n_kept(place: Place) -> int:
    """Whole lines that the probe keeps, whatever becomes of it."""
    kept = (place.folder / "store" / "shared").glob("*/*.jsonl")
    return sum(file.read_bytes().count(b"\n") for file in kept)
