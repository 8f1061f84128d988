"""`build`, `patches` and `doctor` as a person types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llamacpp_pipeline.toolchain.places import Places
from tests.tools.small_project import small_project


def program(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from llamacpp_pipeline.cli.main import main; main()", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **variables},
        timeout=55,
    )


def recipe(folder: Path, project: Path) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(
        "model: {demo: true}\n"
        "evaluation: {corpus: {demo: evaluation}}\n"
        "variants: [Q8_0]\n"
        f"toolchain: {{source: path, path: {project}}}\n",
        encoding="utf-8",
    )
    return path


def test_doctor_looks_without_fetching_anything(tmp_path: Path) -> None:
    done = program("doctor", "--format", "json", XDG_CACHE_HOME=str(tmp_path / "cache"))

    found = {each["name"]: each for each in json.loads(done.stdout)}
    missing = [each["name"] for each in found.values() if each["state"] == "missing"]
    assert done.returncode == (3 if missing else 0), done.stderr
    assert found["Python"]["state"] == "ok"
    assert found["llama.cpp build"]["state"] == "later"
    assert found["llama.cpp build"]["fix"] == "llamacpp-pipeline build"
    assert not (tmp_path / "cache" / "llamacpp-pipeline" / "sources").exists()


def test_doctor_names_what_is_missing_and_the_fix(tmp_path: Path) -> None:
    done = program("doctor", XDG_CACHE_HOME=str(tmp_path), CXX="g++-of-nowhere")

    assert done.returncode == 3
    assert "MISSING  C++ compiler" in done.stdout
    assert "fix: apt-get install g++" in done.stdout


def test_doctor_says_what_is_wrong_with_a_checkout(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    config = str(recipe(tmp_path, tmp_path / "empty"))

    done = program("doctor", "--config", config, XDG_CACHE_HOME=str(tmp_path / "cache"))

    assert done.returncode == 3
    assert "is not a checkout of llama.cpp" in done.stdout


@pytest.mark.tools
def test_build_of_what_is_built_says_so(toolchain_bin: Path) -> None:
    done = program("build", "--format", "json")

    assert done.returncode == 0, done.stderr
    assert done.stderr == "llama.cpp is built already\n"
    assert json.loads(done.stdout)["bin_dir"] == str(toolchain_bin)


@pytest.mark.tools
def test_the_repositorys_patches_apply() -> None:
    done = program("patches", "check")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ok  0001-")


def test_a_patch_refused_by_a_users_tree_exits_3(tmp_path: Path) -> None:
    config = str(recipe(tmp_path, small_project(tmp_path / "own")))

    done = program("build", "--config", config, XDG_CACHE_HOME=str(tmp_path / "cache"))

    name = next(Places.from_environment().patches.glob("0001-*")).name
    assert done.returncode == 3
    assert f"error: patches/{name} does not apply" in done.stderr
    assert done.stdout == ""
