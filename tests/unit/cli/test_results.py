"""`results` and `card`."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner

from llamacpp_pipeline.cli.results import card, newest_results, results
from llamacpp_pipeline.errors import InputError, UsageError
from llamacpp_pipeline.report.card import render_card
from llamacpp_pipeline.report.plots import pictures
from llamacpp_pipeline.report.terminal import render_text
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.document import ResultsDocument, document_json
from tests.unit.results.sample import CREATED, NOBODY, sample_run


def document() -> ResultsDocument:
    return results_document(sample_run(), created=CREATED, redactor=NOBODY)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """output/Tiny with results, and an older output/Old beside it."""
    monkeypatch.chdir(tmp_path)
    # matplotlib starts a process to look for fonts; its pictures are tested in tests/process
    monkeypatch.setattr(pictures, "find_spec", lambda name: None if name else find_spec(name))
    for age, name in enumerate(("Tiny", "Old")):
        path = Path("output") / name / "results.json"
        path.parent.mkdir(parents=True)
        path.write_text(document_json(document()), encoding="utf-8")
        os.utime(path, ns=(10**18 - age * 10**9,) * 2)
    return Path("output") / "Tiny"


def test_results_shows_the_newest_by_default(folder: Path) -> None:
    shown = CliRunner().invoke(results, [], catch_exceptions=False)

    assert newest_results(Path("output")) == folder
    assert shown.exit_code == 0
    assert shown.stdout == render_text(document())


def test_results_as_json(folder: Path) -> None:
    shown = CliRunner().invoke(results, [str(folder), "--format", "json"], catch_exceptions=False)

    assert ResultsDocument.model_validate(json.loads(shown.stdout)) == document()


@pytest.mark.parametrize(
    ("form", "start"), [("json", '{\n  "$schema"'), ("markdown", "# results.json, field by field")]
)
def test_results_describes_its_own_form(form: str, start: str) -> None:
    shown = CliRunner().invoke(results, ["--schema", form], catch_exceptions=False)

    assert shown.stdout.startswith(start)


def test_card_is_written_again_and_its_path_printed(folder: Path) -> None:
    shown = CliRunner().invoke(card, [], catch_exceptions=False)

    assert shown.stdout == f"{folder / 'README.md'}\n"
    assert (folder / "README.md").read_text(encoding="utf-8") == render_card(document())
    assert (folder / "plots" / "kld-size.csv").read_text().startswith("label,kind,file_bytes")


def test_card_on_stdout_leaves_the_file_alone(folder: Path) -> None:
    shown = CliRunner().invoke(card, [str(folder), "--stdout"], catch_exceptions=False)

    assert shown.stdout == render_card(document())
    assert not (folder / "README.md").exists()


def test_no_results_at_all_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UsageError, match=r"no folder with results\.json") as caught:
        CliRunner().invoke(results, [], catch_exceptions=False)

    assert caught.value.hint


def test_a_folder_without_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        CliRunner().invoke(card, [str(tmp_path)], catch_exceptions=False)
