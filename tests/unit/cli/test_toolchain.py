from __future__ import annotations

import json
from pathlib import Path

import pytest

from llamacpp_pipeline.cli import toolchain as module
from llamacpp_pipeline.cli.toolchain import StderrTalk, placed
from llamacpp_pipeline.config.load import load
from llamacpp_pipeline.toolchain.places import Places
from llamacpp_pipeline.toolchain.survey import Finding
from tests.unit.toolchain.test_binaries import toolchain

FINDINGS = (
    Finding(name="git", state="ok", detail="2.39.5"),
    Finding(name="torch", state="missing", detail="not installed", fix="make venv"),
)


def test_a_lack_is_marked_and_followed_by_its_fix() -> None:
    assert module._finding_lines(FINDINGS) == [
        "ok       git    2.39.5",
        "MISSING  torch  not installed",
        "                fix: make venv",
    ]


def test_what_was_built_is_data() -> None:
    places = Places.from_environment()
    document = json.loads(module._build_json(toolchain(places, backend="vulkan")))

    assert document["backend"] == "vulkan"
    assert document["build_number"] == 10454
    assert document["bin_dir"].endswith("/bin")
    assert len(document["build_id"]) == 64


def test_talk_goes_to_stderr_and_counts_at_most_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    talk = StderrTalk()

    talk.say("building")
    for done in range(1, 101):
        talk.progress(done, 100)

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[0] == "building"
    assert len(captured.err.splitlines()) == 2


def test_a_relative_source_path_starts_from_its_yaml_file(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    recipe = tmp_path / "recipes" / "recipe.yaml"
    recipe.parent.mkdir()
    recipe.write_text(
        "model: {demo: true}\n"
        "evaluation: {corpus: {demo: evaluation}}\n"
        "variants: [Q8_0]\n"
        "toolchain: {source: path, path: ../mine}\n",
        encoding="utf-8",
    )

    assert placed(load(recipe)).path == str(tmp_path / "recipes" / ".." / "mine")
