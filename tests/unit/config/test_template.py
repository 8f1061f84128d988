"""The commented YAML: it loads, it says the same, and it leaves no key out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from llamacpp_pipeline.config.keys import WHY
from llamacpp_pipeline.config.load import load
from llamacpp_pipeline.config.schema import PipelineConfig
from llamacpp_pipeline.config.template import commented
from llamacpp_pipeline.config.wording import section_in


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("model", [None, "Qwen/Qwen3.5-0.8B", "Qwen/Qwen3.5-9B", "a/b"])
def test_what_is_written_loads_and_says_the_same(model: str | None) -> None:
    loaded = load(model=model)
    Path("a.yaml").write_text(commented(loaded, folder=Path()), encoding="utf-8")

    assert load(Path("a.yaml")).config == loaded.config


def test_local_paths_are_relative_to_the_file_written(folder: Path) -> None:
    (folder / "model").mkdir()
    (folder / "configs").mkdir()

    text = commented(load(model="model"), folder=Path("configs"))
    Path("configs/a.yaml").write_text(text, encoding="utf-8")

    assert f"path: {os.path.join('..', 'model')}  #" in text  # noqa: PTH118
    assert load(Path("configs/a.yaml")).file("model.path") == Path("configs/../model")


def test_every_key_is_there_with_what_it_is_for() -> None:
    text = commented(load(), folder=Path())

    for path, why in WHY.items():
        assert f"{path.rpartition('.')[2]}:" in text, path
        assert f"# {why}\n" in text, path


def test_every_key_is_explained_and_nothing_else_is() -> None:
    assert set(keys(PipelineConfig)) == set(WHY)


def test_a_section_that_is_absent_is_one_comment_to_take_away() -> None:
    lines = commented(load(), folder=Path()).splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("# imatrix:"))
    end = lines.index("", start)
    given = [line.removeprefix("# ").replace("'...'", "a/b") for line in lines[start:end]]
    Path("a.yaml").write_text("\n".join((*lines[:start], *given, *lines[end:])), encoding="utf-8")

    imatrix = load(Path("a.yaml"), overrides=["calibration=null"]).config.imatrix

    assert imatrix is not None
    assert imatrix.hub is not None
    assert (imatrix.path, imatrix.hub.repo, imatrix.hub.file) == (None, "a/b", "a/b")


def keys(model: type[BaseModel], path: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = f"{path}.{name}" if path else name
        yield inner
        section: Any = section_in(field.annotation)
        if section is not None:
            yield from keys(section, inner)
