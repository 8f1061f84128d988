"""Candidates made, measured and chosen between with the real binaries, on the demo model."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from llamacpp_pipeline.demo import demo_text
from llamacpp_pipeline.toolchain.binaries import Toolchain
from tests.tools.test_pipeline import Place

pytestmark = [pytest.mark.tools, pytest.mark.timeout(600)]

CONFIG = """
model: {demo: true, name: small}
convert: {pre_tokenizer: qwen35}
evaluation: {corpus: {demo: evaluation}, n_ctx: 128, n_chunks: 24}
calibration: {corpus: {demo: calibration}, n_ctx: 128, n_chunks: 8}
placement: {n_threads: 2, devices: [cpu0, cpu1]}
variants:
  - Q4_K_M
  - name: small
    ftype: Q3_K_M
    candidates: [Q2_K, Q4_K_M, {name: no-imatrix, imatrix: false}]
bench: null
"""


@pytest.fixture(scope="module")
def done(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A run from an empty store."""
    del toolchain
    folder = tmp_path_factory.mktemp("selection")
    (folder / "small.yaml").write_text(CONFIG)
    place = Place(folder)
    ran = place.run("run")
    assert ran.returncode == 0, ran.stderr
    return place


def test_the_best_of_the_candidates_that_are_small_enough_is_delivered(done: Place) -> None:
    (selection,) = done.results()["selections"]
    figures = {one["name"]: one for one in selection["candidates"]}

    assert list(figures) == ["base", "Q2_K", "Q4_K_M", "no-imatrix"]
    assert figures["Q4_K_M"]["too_large"]
    running = {n: one["mean_kld"]["value"] for n, one in figures.items() if not one["too_large"]}
    assert running[selection["kept"]] == min(running.values())
    assert running["Q2_K"] == max(running.values())
    assert figures["Q2_K"]["difference"]["value"] > figures["Q2_K"]["difference"]["bound"]


def test_differences_are_over_the_same_chunks_and_sharper_between_files_that_are_alike(
    done: Place,
) -> None:
    (selection,) = done.results()["selections"]
    figures = {one["name"]: one for one in selection["candidates"]}
    others = [one for one in figures.values() if one["name"] != selection["kept"]]

    assert all(one["difference"]["paired"] for one in others)
    near = figures[{"base": "no-imatrix", "no-imatrix": "base"}[selection["kept"]]]
    errors = (near["mean_kld"]["stderr"], figures[selection["kept"]]["mean_kld"]["stderr"])
    assert near["difference"]["stderr"] < math.hypot(*errors)
    tie = abs(near["difference"]["value"]) <= near["difference"]["bound"]
    assert (selection["reason"] == "kld") is not tie


def test_the_file_delivered_is_the_kept_one_and_is_measured_as_such(done: Place) -> None:
    results = done.results()
    row = next(row for row in results["variants"] if row["label"] == "small")
    (selection,) = results["selections"]
    kept = next(one for one in selection["candidates"] if one["name"] == selection["kept"])

    assert row["quality"]["mean_kld"] == kept["mean_kld"]
    assert (done.out / "small-small.gguf").stat().st_size == kept["file_bytes"]
    assert not list(Path(done.out).glob("*~*"))


def test_a_candidate_that_is_another_variant_was_not_made_twice(done: Place) -> None:
    assert "quantize/small~Q4_K_M" in done.events("hit")
    assert "kld/small~Q4_K_M" in done.events("hit")


def test_a_second_run_chooses_nothing_anew(done: Place) -> None:
    assert "nothing to do" in done.run("run").stderr


def test_another_rule_chooses_again_without_measuring_again(done: Place) -> None:
    ran = done.run("run", "--set", "selection.larger_by=0.5")

    assert ran.returncode == 0, ran.stderr
    assert done.events("done") == ["select/small"]
    (selection,) = done.results()["selections"]
    assert (selection["kept"], selection["reason"]) == ("Q4_K_M", "kld")


def test_with_a_text_of_its_own_the_choice_is_apart_from_the_figures(done: Place) -> None:
    own = ("--set", "selection.corpus.demo=selection", "--set", "selection.n_chunks=16")
    assert done.run("run").returncode == 0
    before = done.results()["selections"][0]
    ran = done.run("run", *own)
    results = done.results()
    (selection,) = results["selections"]

    assert ran.returncode == 0, ran.stderr
    candidates = [
        f"kld-selection/small~{name}" for name in ("base", "Q2_K", "Q4_K_M", "no-imatrix")
    ]
    made = {"check-selection", "reference-selection", *candidates, "select/small", "kld/small"}
    assert set(done.events("done")) == made
    chosen_on = selection["chosen_on"]
    assert (chosen_on["own_text"], chosen_on["n_ctx"], chosen_on["n_chunks"]) == (True, 128, 16)
    assert chosen_on["corpus"]["sha256"] != results["conditions"]["corpus"]["sha256"]
    (kept,) = (one for one in before["candidates"] if one["name"] == selection["kept"])
    row = next(row for row in results["variants"] if row["label"] == "small")
    assert row["quality"]["mean_kld"] == kept["mean_kld"]  # as measured where it was chosen on it
    apart = {one["name"]: one["mean_kld"] for one in selection["candidates"]}
    assert apart[selection["kept"]] != row["quality"]["mean_kld"]


def test_a_text_to_choose_on_that_has_passages_of_another_is_refused(done: Place) -> None:
    texts = {part: done.folder / f"{part}.txt" for part in ("evaluation", "mixed")}
    texts["evaluation"].write_text(demo_text("evaluation"), encoding="utf-8")
    texts["mixed"].write_text(demo_text("evaluation")[1000:], encoding="utf-8")
    ran = done.run("run", "--set", f"selection.corpus.path={texts['mixed']}")

    assert ran.returncode == 1
    assert "of the text to choose on stands in the evaluation text too" in ran.stderr
    same = done.run("plan", "--set", f"selection.corpus.path={texts['evaluation']}")
    assert same.returncode == 2
    assert "the text to choose on is the evaluation text" in same.stderr


def test_a_plan_of_another_cut_is_timed_by_what_was_measured(done: Place) -> None:
    text = done.run("plan", "--set", "evaluation.n_chunks=12").stdout

    assert ", 2 at once (cpu0, cpu1)" in text
    assert "from earlier steps of this model on this machine: reference, kld" in text
