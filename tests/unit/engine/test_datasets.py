"""Evaluation sets become content with a digest, or the configuration is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from llamacpp_pipeline.config.load import load
from llamacpp_pipeline.demo.tasks import demo_tasks
from llamacpp_pipeline.engine.datasets import resolved_datasets
from llamacpp_pipeline.engine.digests import Digests
from llamacpp_pipeline.engine.resolve import Resolver
from llamacpp_pipeline.errors import ConfigError
from llamacpp_pipeline.plan.sources import HubCommit, Source
from llamacpp_pipeline.plan.step import Leaf

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BASE = "model: {demo: true}\nevaluation: {corpus: {demo: evaluation}}\nvariants: [Q8_0]\n"


def resolved(folder: Path, text: str) -> dict[str, Source]:
    file = folder / "pipeline.yaml"
    file.write_text(BASE + text, encoding="utf-8")
    resolver = Resolver(
        loaded=load(file),
        digests=Digests(folder / "digests"),
        texts=folder / "texts",
        offline=True,
    )
    return resolved_datasets(resolver)


def test_the_demos_sets_are_made_once(tmp_path: Path) -> None:
    text = "tasks: {sets: [demo-passages]}"
    (leaf,) = resolved(tmp_path, text).values()
    assert isinstance(leaf, Leaf)
    assert leaf.digest == hashlib.sha256(demo_tasks("passages").encode()).hexdigest()
    made = leaf.path.stat().st_mtime_ns
    resolved(tmp_path, text)
    assert leaf.path.stat().st_mtime_ns == made


def test_a_local_copy_is_known_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text("{}\n", encoding="utf-8")
    own = "datasets: [{name: mine, path: mine.jsonl, layout: task"
    found = resolved(tmp_path, f"tasks: {{sets: [mine]}}\n{own}}}]")
    digest = hashlib.sha256(b"{}\n").hexdigest()
    assert isinstance(found["mine"], Leaf)
    assert found["mine"].digest == digest
    assert found == resolved(tmp_path, f"tasks: {{sets: [mine]}}\n{own}, sha256: {digest}}}]")


def test_a_local_copy_of_other_content_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text("{}\n", encoding="utf-8")
    own = f"{{name: mine, path: mine.jsonl, layout: task, sha256: {'0a' * 32}}}"
    with pytest.raises(
        ConfigError, match=r"mine\.jsonl is not the file that was expected"
    ) as caught:
        resolved(tmp_path, f"tasks: {{sets: [mine]}}\ndatasets: [{own}]")
    assert caught.value.evidence[0] == f"expected sha256 {'0a' * 32}"
    assert caught.value.exit_code == 2


def test_offline_a_set_whose_commit_nobody_knows_is_a_problem_of_the_configuration(
    tmp_path: Path,
) -> None:
    with pytest.raises(
        ConfigError, match="the evaluation set mmlu cannot be had: offline"
    ) as caught:
        resolved(tmp_path, "tasks: {sets: [mmlu]}")
    assert caught.value.hint is not None
    assert "`datasets: [{name: mmlu, path: FILE}]`" in caught.value.hint


def test_a_commit_needs_nobody_and_an_address_is_not_looked_at(tmp_path: Path) -> None:
    hub = f"{{repo: a/b, repo_type: dataset, file: a.jsonl, revision: {COMMIT}}}"
    own = (
        f"datasets: [{{name: mmlu, hub: {hub}}},"
        " {name: web, url: 'https://x.example/a.jsonl', layout: task}]"
    )
    found = resolved(tmp_path, f"tasks: {{sets: [mmlu, web]}}\n{own}")
    assert found == {"mmlu": HubCommit(commit=COMMIT)}
