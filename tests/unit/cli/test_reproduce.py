"""`reproduce` before anything runs: what it needs and does not find."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from llamacpp_pipeline.cli.rebuild import Rebuild, located
from llamacpp_pipeline.cli.reproduce import reproduce
from llamacpp_pipeline.errors import InputError
from llamacpp_pipeline.process.runner import LocalRunner
from llamacpp_pipeline.results.manifest import Manifest, run_manifest
from tests.unit.results.sample import NOBODY, sample_run

LOCAL = {
    "model": {"path": "/nowhere/Tiny", "name": "Tiny"},
    "evaluation": {"corpus": {"path": "/nowhere/evaluation.txt"}, "n_ctx": 256},
    "calibration": {"corpus": {"path": "/nowhere/calibration.txt"}, "n_ctx": 256},
}


def manifest() -> Manifest:
    return run_manifest(sample_run(config=LOCAL), redactor=NOBODY)


def rebuild(folder: Path, *overrides: str) -> Rebuild:
    return Rebuild(
        manifest=manifest(),
        beside=folder,
        overrides=overrides,
        root=folder / "root",
        runner=LocalRunner(),
    )


def test_local_files_are_asked_for_by_their_keys(tmp_path: Path) -> None:
    job = rebuild(tmp_path)

    with pytest.raises(InputError) as caught:
        job.loaded(job.config())

    said = caught.value.report()
    assert "cannot be planned here" in said
    assert "model.path: there is no folder" in said
    assert "calibration.corpus.path: there is no file" in said
    assert "evaluation.corpus.path" not in said  # no file depends on it
    assert "`--set model.path=FOLDER`" in said


def test_what_is_said_with_set_is_used_and_the_model_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "calibration.txt").write_text("text")
    job = rebuild(tmp_path, f"model.path={tmp_path / 'elsewhere'}")

    loaded = job.loaded(job.config())

    assert loaded.file("model.path") == tmp_path / "elsewhere"
    assert loaded.file("calibration.corpus.path") == tmp_path / "calibration.txt"
    assert loaded.config.model.label == "Tiny"
    assert loaded.config.evaluation.corpus.demo == "evaluation"


def test_a_text_beside_the_manifest_is_used(tmp_path: Path) -> None:
    (tmp_path / "evaluation.txt").write_text("text")

    config = rebuild(tmp_path).config()

    assert config["evaluation"]["corpus"]["path"] == "evaluation.txt"


def test_the_steps_of_the_files_are_made_and_no_others(tmp_path: Path) -> None:
    assert rebuild(tmp_path).steps == ("quantize/Q4_K_M", "quantize/Q4_K_M-selective", "imatrix")


def test_paths_are_looked_for_beside_the_manifest(tmp_path: Path) -> None:
    config = {"model": {"path": "Tiny"}, "references": [{"path": "a.gguf"}], "x": {"path": None}}

    assert located(config, tmp_path) == {
        "model": {"path": str(tmp_path / "Tiny")},
        "references": [{"path": str(tmp_path / "a.gguf")}],
        "x": {"path": None},
    }


def test_what_is_no_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"schema_version": 9}))

    result = CliRunner().invoke(reproduce, [str(tmp_path / "manifest.json")])

    assert isinstance(result.exception, InputError)
    assert "schema_version is 9, this version reads 1" in result.exception.message
