"""Sensitivities measured and used with the real binaries, on the (hybrid) demo model."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from llamacpp_pipeline.stages.quantize import TENSOR_TYPES
from llamacpp_pipeline.toolchain.binaries import Toolchain
from tests.tools.test_pipeline import PROGRAM, Place

pytestmark = [pytest.mark.tools, pytest.mark.timeout(600)]

CONFIG = """
model: {demo: true, name: small}
convert: {pre_tokenizer: qwen35}
evaluation: {corpus: {demo: evaluation}, n_ctx: 128, n_chunks: 8}
calibration: {corpus: {demo: calibration}, n_ctx: 128, n_chunks: 8}
sensitivity: {corpus: {demo: probe}, n_ctx: 128, n_chunks: 4, types: [q4_K]}
variants:
  - {name: measured, bpw: 4.5, type_set: kquants}
  - {name: prior, bpw: 4.5, type_set: kquants, sensitivity: prior}
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
    assert rows["measured"]["alpha_sources"] == ["given"]
    assert rows["prior"]["alpha_sources"] == ["prior"]
    alphas = {t["name"]: t["alpha"]["value"] for t in done.results()["sensitivity"]["tensors"]}
    for tensor in rows["measured"]["tensors"]:
        assert tensor["alpha"] == pytest.approx(alphas[tensor["name"]])


def test_divergences_nearly_add_up(done: Place) -> None:
    row = next(row for row in done.results()["variants"] if row["label"] == "measured")
    measured = row["quality"]["mean_kld"]["value"]
    assert row["allocation"]["objective"] == pytest.approx(measured, rel=0.6)  # another text


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
