"""What a configuration can say wrongly of evaluation sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamacpp_pipeline.config.load import load
from llamacpp_pipeline.errors import ConfigError

BASE = """\
model: {demo: true}
evaluation: {corpus: {demo: evaluation}}
variants: [Q8_0]
"""


def problems(tmp_path: Path, text: str) -> tuple[str, ...]:
    file = tmp_path / "pipeline.yaml"
    file.write_text(BASE + text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(file)
    return tuple(line.partition("pipeline.yaml:")[2] for line in caught.value.evidence)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "tasks: {sets: [helaswag]}",
            "4:16: tasks.sets.0: no set is named helaswag: did you mean hellaswag?",
            id="misspelt",
        ),
        pytest.param(
            "tasks: {sets: [mmlu, mmlu]}",
            "4:22: tasks.sets.1: mmlu is named twice: name it once",
            id="twice",
        ),
        pytest.param(
            "tasks: {sets: [gpqa-diamond]}",
            "4:16: tasks.sets.0: gpqa-diamond is gated: accept its terms on its page, then say so"
            " with `datasets: [{name: gpqa-diamond, consent: true}]`",
            id="consent",
        ),
        pytest.param("tasks: {sets: []}", "4:15: tasks.sets: needs at least 1 entry", id="none"),
        pytest.param(
            "tasks: {sets: [mine]}\ndatasets: [{name: mine}]",
            "5:12: datasets.0: mine needs one of `path`, `hub` and `url`, or a known name",
            id="no-source",
        ),
        pytest.param(
            "datasets: [{name: mmlu, url: 'https://x.example/a', layout: mmlu}]",
            "4:12: datasets.0: what https://x.example/a is cannot be told from its name: say so"
            " with `container`",
            id="container",
        ),
        pytest.param(
            "datasets: [{name: mine, url: 'https://x.example/a.csv'}]",
            "4:12: datasets.0: say with `layout` which columns https://x.example/a.csv has",
            id="layout",
        ),
        pytest.param(
            "datasets: [{name: mmlu, n_tasks: 1}, {name: mmlu, n_tasks: 2}]",
            "4:45: datasets.1.name: a second set named mmlu: give one of them another `name`",
            id="second",
        ),
        pytest.param(
            "datasets: [{name: mmlu, path: absent.jsonl}]",
            "4:31: datasets.0.path: there is no file absent.jsonl",
            id="absent",
        ),
        pytest.param(
            "datasets: [{name: mmlu, url: 'https://x.example/a.csv', hub: {repo: a/b, file: c}}]",
            "4:12: datasets.0: give at most one of `path`, `hub` and `url`",
            id="two-sources",
        ),
        pytest.param(
            f"datasets: [{{name: mmlu, sha256: {'0a' * 32}}}]",
            "4:12: datasets.0: `sha256` goes with `path` or `url`",
            id="sha256",
        ),
        pytest.param(
            "datasets: [{name: mmlu, url: 'ftp://x.example/a.csv'}]",
            "4:30: datasets.0.url: 'ftp://x.example/a.csv' is not an address that begins with",
            id="ftp",
        ),
    ],
)
def test_each_mistake_is_named_where_it_stands(tmp_path: Path, text: str, message: str) -> None:
    found = problems(tmp_path, text)
    assert any(line.startswith(message) for line in found), found


def test_a_local_copy_is_looked_for_beside_the_file(tmp_path: Path) -> None:
    file, copy = tmp_path / "pipeline.yaml", tmp_path / "mine.jsonl"
    copy.write_text("{}\n", encoding="utf-8")
    said = "tasks: {sets: [mine]}\ndatasets: [{name: mine, path: mine.jsonl, layout: task}]\n"
    file.write_text(BASE + said, encoding="utf-8")
    assert load(file).file("datasets.0.path") == copy


def test_consent_is_taken_at_its_word(tmp_path: Path) -> None:
    file = tmp_path / "pipeline.yaml"
    said = "tasks: {sets: [gpqa-diamond]}\ndatasets: [{name: gpqa-diamond, consent: true}]\n"
    file.write_text(BASE + said, encoding="utf-8")
    assert load(file).config.datasets[0].consent
