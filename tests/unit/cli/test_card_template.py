"""`card.template`: read before a run, refused where it cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamacpp_pipeline.cli.card_template import own_template
from llamacpp_pipeline.config.load import LoadedConfig, load
from llamacpp_pipeline.errors import ConfigError, InputError

CONFIG = """model: {demo: true}
evaluation: {corpus: {demo: evaluation}}
variants: [{ftype: Q8_0, imatrix: false}]
card: {template: mine.md.j2}
"""


def loaded(folder: Path, template: bytes | None) -> LoadedConfig:
    (folder / "pipeline.yaml").write_text(CONFIG)
    if template is not None:
        (folder / "mine.md.j2").write_bytes(template)
    return load(folder / "pipeline.yaml")


def test_it_lies_beside_the_configuration(tmp_path: Path) -> None:
    assert own_template(loaded(tmp_path, "# {{ document.name }} é".encode())) == (
        "# {{ document.name }} é"
    )


def test_none_is_named_by_default(tmp_path: Path) -> None:
    (tmp_path / "plain.yaml").write_text(CONFIG.rpartition("card:")[0])

    assert own_template(load(tmp_path / "plain.yaml")) is None


def test_a_file_that_is_not_there_is_said_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        loaded(tmp_path, None)

    (line,) = refusal.value.evidence
    assert "pipeline.yaml:4:" in line
    assert "there is no file mine.md.j2" in line


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"card\.template: mine\.md\.j2 cannot be read"
    ) as refusal:
        own_template(loaded(tmp_path, b"\xff\xfe\x00"))

    assert "UTF-8" in (refusal.value.hint or "")


def test_what_jinja_cannot_read_is_refused_with_the_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"card\.template, line 2: cannot be filled"):
        own_template(loaded(tmp_path, b"fine\n{% if %}\n"))
