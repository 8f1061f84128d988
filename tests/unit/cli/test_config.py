"""`init` and `schema` as a person calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from llamacpp_pipeline.cli.config import init, schema
from llamacpp_pipeline.cli.main import guarded
from llamacpp_pipeline.config.json_schema import json_schema
from llamacpp_pipeline.config.load import load


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_init_writes_a_file_that_loads_and_says_where() -> None:
    result = CliRunner().invoke(init, ["Qwen/Qwen3.5-9B"])

    assert (result.exit_code, result.stdout) == (0, "Qwen3.5-9B.yaml\n")
    assert "llamacpp-pipeline plan --config Qwen3.5-9B.yaml" in result.stderr
    assert load(Path("Qwen3.5-9B.yaml")).config == load(model="Qwen/Qwen3.5-9B").config


def test_init_without_a_model_is_for_the_demo() -> None:
    assert CliRunner().invoke(init, []).stdout == "demo.yaml\n"
    assert load(Path("demo.yaml")).config == load().config


def test_init_never_writes_over_a_file_unless_told_to(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.yaml").write_text("mine", encoding="utf-8")

    assert guarded(["init", "a/b", "--output", "a.yaml"]) == 2
    assert "a.yaml is there already" in capsys.readouterr().err
    assert (folder / "a.yaml").read_text(encoding="utf-8") == "mine"

    assert guarded(["init", "a/b", "--output", "a.yaml", "--force"]) == 0
    assert load(folder / "a.yaml").config.model.repo == "a/b"


def test_init_into_no_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(["init", "a/b", "--output", "no/a.yaml"]) == 2
    assert "mkdir -p no" in capsys.readouterr().err


def test_init_to_standard_output_writes_nothing_else(folder: Path) -> None:
    result = CliRunner().invoke(init, ["a/b", "--output", "-"])

    assert result.stdout.startswith("# b: what `llamacpp-pipeline run --config`")
    assert result.stderr == ""
    assert list(folder.iterdir()) == []


def test_init_for_what_is_no_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(["init", "nothing"]) == 2
    assert "nothing is neither a folder nor a Hub id" in capsys.readouterr().err


def test_schema_prints_the_schema() -> None:
    result = CliRunner().invoke(schema, [])

    assert json.loads(result.stdout) == json_schema()
