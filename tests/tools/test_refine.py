"""Types validated and corrected with the real binaries, and a refinement that is interrupted."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time

import psutil
import pytest

from llamacpp_pipeline.stages.refine_record import RefineResult
from llamacpp_pipeline.toolchain.binaries import Toolchain
from tests.tools.test_pipeline import Place

pytestmark = [pytest.mark.tools, pytest.mark.timeout(600)]

CONFIG = """
model: {demo: true, name: small}
convert: {pre_tokenizer: qwen35}
evaluation: {corpus: {demo: evaluation}, n_ctx: 128, n_chunks: 4}
calibration: {corpus: {demo: calibration}, n_ctx: 128, n_chunks: 8}
sensitivity:
  corpus: {demo: probe}
  n_ctx: 128
  n_chunks: 4
  types: [q4_K]
  refine: {rounds: 1, validation_chunks: 8}
variants: [{name: small, bpw: 3.6, type_set: kquants}]
bench: null
tasks: null
"""


@pytest.fixture(scope="module")
def done(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A run from an empty store."""
    del toolchain
    folder = tmp_path_factory.mktemp("refine")
    (folder / "small.yaml").write_text(CONFIG)
    place = Place(folder)
    ran = place.run("run")
    assert ran.returncode == 0, ran.stderr
    return place


def report(place: Place) -> RefineResult:
    (file,) = (place.folder / "store").glob("objects/*/*/refinement.json")
    return RefineResult.model_validate_json(file.read_bytes())


def test_the_mix_of_least_divergence_on_the_validation_text_is_kept(done: Place) -> None:
    found = report(done)
    assert [mix.name for mix in found.mixes[:2]] == ["prior", "measured"]
    best = min(found.mixes, key=lambda mix: mix.kld.value)
    assert found.kept == best.name
    assert best.to_kept is None
    assert found.held_out
    assert found.n_chunks == 8
    for mix in found.mixes:
        assert 0 < mix.kld.value < 0.2
        assert mix.predicted > 0


def test_the_file_has_the_types_of_the_mix_kept(done: Place) -> None:
    (row,) = done.results()["variants"]
    tried = row["allocation"]["refinement"]
    mix = next(one for one in tried["mixes"] if one["name"] == tried["kept"])
    assert row["allocation"]["reached_bpw"] == pytest.approx(mix["bpw"])
    assert row["allocation"]["objective"] == pytest.approx(mix["predicted"])
    assert "What was tried before a file was made" in (done.out / "README.md").read_text()


def test_values_at_the_solution_agree_with_single_ones(done: Place) -> None:
    rounds = report(done).rounds
    assert rounds
    for one in rounds:
        assert one.n_steps > 0
        assert one.agreement is not None
        assert 0.3 < one.agreement < 3


def test_an_interrupted_refinement_leaves_no_process_and_goes_on(
    done: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = Place(tmp_path_factory.mktemp("interrupted"))
    (place.folder / "small.yaml").write_text(CONFIG)
    shutil.copytree(done.folder / "store", place.folder / "store", symlinks=True)
    (old,) = (place.folder / "store").glob("objects/*/*/refinement.json")
    expected = json.loads(old.read_bytes())
    shutil.rmtree(old.parent)
    for folder in (place.folder / "store" / "shared").iterdir():
        shutil.rmtree(folder)

    with subprocess.Popen(
        place.command("run", "--only", "refine/small"), stderr=subprocess.DEVNULL
    ) as process:
        while not n_measured(place) and process.poll() is None:
            time.sleep(0.02)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    kept = n_measured(place)
    assert kept

    ran = place.run("run", "--only", "refine/small")
    assert ran.returncode == 0, ran.stderr
    assert n_measured(place) > kept
    again = report(place).model_dump(mode="json")
    assert [m["kld"] for m in again["mixes"]] == [m["kld"] for m in expected["mixes"]]
    assert again["kept"] == expected["kept"]


def n_measured(place: Place) -> int:
    """Whole lines that the probe has left for another attempt."""
    files = (place.folder / "store" / "shared").glob("*/*.jsonl")
    return sum(file.read_bytes().count(b"\n") for file in files)
