"""Several calibration texts, given imatrices and their check, with the real binaries."""

from __future__ import annotations

import argparse
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llamacpp_pipeline.datasets import imatrix_file
from llamacpp_pipeline.datasets.imatrix_file import Imatrix
from llamacpp_pipeline.demo import demo_text
from llamacpp_pipeline.report.plots.pictures import can_draw
from llamacpp_pipeline.toolchain.binaries import Toolchain
from tests.tools.test_pipeline import PROGRAM, Place, by_hand

pytestmark = [pytest.mark.tools, pytest.mark.timeout(600)]

CONFIG = """
model: {demo: true, name: small}
convert: {pre_tokenizer: qwen35}
evaluation: {corpus: {demo: evaluation}, n_ctx: 128, n_chunks: 2}
calibration:
  n_ctx: 128
  n_chunks: 6
  texts:
    - {demo: calibration, name: prose, n_chunks: 4}
    - {path: code.txt, name: code, weight: 3}
variants: [Q4_K_M]
bench: null
"""
CUT = ("-c", 128, "-b", 2048, "-ub", 512)


@pytest.fixture(scope="module")
def place(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A run on prose and on source code, each token of which counts three times."""
    del toolchain
    folder = tmp_path_factory.mktemp("calibration")
    (folder / "small.yaml").write_text(CONFIG)
    (folder / "code.txt").write_text(Path(argparse.__file__).read_text(encoding="utf-8"))
    place = Place(folder)
    ran = place.run("run")
    assert ran.returncode == 0, ran.stderr
    return place


@pytest.fixture(scope="module")
def by_text(place: Place, toolchain: Toolchain) -> dict[str, Path]:
    """The imatrix of each text, made by calling the tool by hand."""
    (place.folder / "prose.txt").write_text(demo_text("calibration"), encoding="utf-8")
    model = reference(place)
    for name, chunks in (("prose", 4), ("code", 6)):
        by_hand(
            toolchain, "llama-imatrix", "-m", model, "-f", f"{name}.txt", "--no-escape", *CUT,
            "--chunks", chunks, "-o", f"{name}.gguf", folder=place.folder,
        )  # fmt: skip
    return {name: place.folder / f"{name}.gguf" for name in ("prose", "code")}


def reference(place: Place) -> Path:
    return next(
        path.parent / "model.gguf"
        for path in (place.folder / "store" / "objects").rglob("record.json")
        if json.loads(path.read_text())["stage"] == "convert"
    )


def refuse_difference(found: Imatrix, expected: Imatrix) -> None:
    assert found.entries.keys() == expected.entries.keys()
    for name, entry in found.entries.items():
        other = expected.entries[name]
        np.testing.assert_array_equal(entry.counts, other.counts)
        np.testing.assert_allclose(entry.squares, other.squares, rtol=1e-6)
        assert entry.values is not None
        assert other.values is not None
        scale = np.sqrt(other.squares * other.counts[:, np.newaxis])
        np.testing.assert_array_less(np.abs(entry.values - other.values), 1e-6 * scale + 1e-30)


def test_the_merge_is_the_sum_of_both_texts_by_weight(
    place: Place, by_text: dict[str, Path]
) -> None:
    prose, code = (imatrix_file.read(by_text[name]) for name in ("prose", "code"))

    found = imatrix_file.read(place.out / "small-imatrix.gguf")

    refuse_difference(found, imatrix_file.merge([prose, code, code, code]))
    assert found.chunk_count == 10


def test_the_tool_merges_as_the_pipeline_does(
    place: Place, by_text: dict[str, Path], toolchain: Toolchain
) -> None:
    parts = [by_text["prose"], *[by_text["code"]] * 3]
    by_hand(
        toolchain, "llama-imatrix", "--in-file", ",".join(map(str, parts)), "-c", 128,
        "-o", "tool.gguf", folder=place.folder,
    )  # fmt: skip

    refuse_difference(
        imatrix_file.read(place.out / "small-imatrix.gguf"),
        imatrix_file.read(place.folder / "tool.gguf"),
    )


def test_results_and_card_tell_what_it_was_made_from(place: Place) -> None:
    results, card = place.results(), (place.out / "README.md").read_text()

    parts = results["conditions"]["calibration"]["parts"]
    assert [(p["name"], p["n_chunks"], p["weight"]) for p in parts] == [
        ("prose", 4, 1),
        ("code", 6, 3),
    ]
    assert results["imatrix"]["source"] == "merged"
    assert results["imatrix"]["without_means"] == 0
    assert max(one["normalised"] for one in results["imatrix"]["layer_h_diag"]) == 1
    assert "each token counted 3 times" in card
    assert "## Activations" in card
    assert (place.out / "plots" / "activations.svg").exists() is can_draw()
    assert ("(plots/activations.svg)" in card) is can_draw()


def test_the_tools_statistics_are_kept_beside_each_imatrix(place: Place) -> None:
    found = {
        json.loads(path.read_text())["stage"]
        for path in (place.folder / "store" / "objects").rglob("record.json")
        if (path.parent / "statistics.json").exists()
    }

    assert found == {"imatrix", "merge-imatrix"}


def test_another_weight_merges_anew_and_reads_no_text_again(place: Place) -> None:
    ran = place.run("plan", "--format", "json", "--set", "calibration.texts.1.weight=2")

    todo = [step["step"] for step in json.loads(ran.stdout)["steps"] if not step["hit"]]
    assert todo == ["imatrix", "quantize/Q4_K_M", "kld/Q4_K_M"]


def given(place: Place, imatrix: Imatrix, name: str) -> tuple[str, ...]:
    """The options that use this imatrix in place of the texts."""
    imatrix_file.write(imatrix, place.folder / name)
    return ("--set", f"imatrix={{path: {place.folder / name}}}")


def test_an_imatrix_of_an_unpatched_tool_is_checked_and_used(place: Place) -> None:
    ours = imatrix_file.read(place.out / "small-imatrix.gguf")
    bare = {name: replace(entry, values=None) for name, entry in ours.entries.items()}
    bare.pop("blk.0.ssm_out.weight")
    other = Place(place.folder)

    ran = other.run(
        "run", *given(place, replace(ours, entries=bare), "their.gguf"),
        "--out", str(place.folder / "given"),
    )  # fmt: skip

    assert ran.returncode == 0, ran.stderr
    found = json.loads((place.folder / "given" / "results.json").read_text())["imatrix"]
    assert found["source"] == "given"
    assert "blk.0.ssm_out.weight" in found["lacking"]
    assert ran.stdout.count("have no signed means") == 1


def test_an_imatrix_of_another_model_is_refused_before_it_is_used(place: Place) -> None:
    ours = imatrix_file.read(place.out / "small-imatrix.gguf")
    entry = ours.entries["blk.0.ssm_out.weight"]
    more = {**ours.entries, "blk.9.ssm_out.weight": replace(entry, name="blk.9.ssm_out.weight")}
    options = given(place, replace(ours, entries=more), "other.gguf")

    ran = place.run("run", *options, "--only", "quantize")

    assert ran.returncode == 1
    assert "the imatrix is of another model" in ran.stderr
    assert "blk.9.ssm_out.weight" in ran.stderr
    assert "fix: give the imatrix of this model" in ran.stderr
    assert "quantize/Q4_K_M" not in place.events("started")


def test_the_command_line_reads_what_the_run_made(place: Place) -> None:
    shown = subprocess.run(
        [PROGRAM, "imatrix", "show", place.out / "small-imatrix.gguf"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert shown.returncode == 0, shown.stderr
    assert "10 chunks of 128 tokens" in shown.stdout
