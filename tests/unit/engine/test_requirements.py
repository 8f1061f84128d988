"""What evaluation sets lack is said before anything runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llamacpp_pipeline.engine import requirements
from llamacpp_pipeline.engine.requirements import is_of_a_set, refuse_unmet
from llamacpp_pipeline.errors import ConfigError
from llamacpp_pipeline.plan.sources import HubCommit
from llamacpp_pipeline.plan.step import Step
from llamacpp_pipeline.stages import hub
from llamacpp_pipeline.stages.hub import Repo, is_cached
from tests.unit.plan import world

COMMIT = HubCommit(commit=world.COMMIT)
CONSENT = {"name": "gpqa-diamond", "consent": True}
URL = "https://x.example/a.jsonl"


def steps(*names: str, **said: Any) -> list[Step]:  # noqa: ANN401
    sources = replace(world.HERE, datasets=dict.fromkeys(names, COMMIT))
    plan = world.plan(sources, tasks={"sets": [*names, *said.pop("more", ())]}, **said)
    return [step for step in plan.steps if is_of_a_set(step)]


@pytest.fixture
def without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "has_pyarrow", lambda: False)


@pytest.fixture
def with_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "has_pyarrow", lambda: True)


@pytest.mark.usefixtures("without_pyarrow")
def test_columnar_files_need_pyarrow() -> None:
    todo = steps("mmlu", "hellaswag")
    with pytest.raises(ConfigError, match="data sets need what is not here") as caught:
        refuse_unmet(world.config(), todo, offline=False)
    assert caught.value.evidence == (
        "mmlu: reading parquet needs pyarrow",
        "hellaswag: reading parquet needs pyarrow",
    )
    assert caught.value.hint == "pip install 'llamacpp-pipeline[parquet]'"
    assert caught.value.exit_code == 2


@pytest.mark.usefixtures("without_pyarrow")
def test_what_is_finished_needs_nothing() -> None:
    refuse_unmet(world.config(), [], offline=True)


@pytest.mark.usefixtures("with_pyarrow")
def test_a_gated_set_needs_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    config = world.config(tasks={"sets": ["gpqa-diamond"]}, datasets=[CONSENT])
    todo = steps("gpqa-diamond", datasets=[CONSENT])
    with pytest.raises(ConfigError) as caught:
        refuse_unmet(config, todo, offline=False)
    assert caught.value.evidence == ("gpqa-diamond: it is gated, and there is no token of yours",)
    assert caught.value.hint == "accept the terms on the page of Idavidrein/gpqa and set HF_TOKEN"
    monkeypatch.setattr(requirements, "has_token", lambda: True)
    refuse_unmet(config, todo, offline=False)


def test_a_token_is_looked_for_where_the_hubs_client_keeps_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not hub.has_token()
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    assert hub.has_token()


@pytest.mark.usefixtures("with_pyarrow")
def test_offline_what_is_not_at_hand_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    own = [{"name": "mine", "url": URL, "layout": "task"}]
    todo = steps("mmlu", datasets=own, more=("mine",))
    with pytest.raises(ConfigError) as caught:
        refuse_unmet(world.config(), todo, offline=True)
    assert caught.value.evidence == (
        "mmlu: offline, and all/test-00000-of-00001.parquet of cais/mmlu is not at hand",
        f"mine: offline, and {URL} is not at hand",
    )
    assert caught.value.hint is not None
    assert "`datasets: [{name: mmlu, path: FILE}]`" in caught.value.hint
    refuse_unmet(world.config(), todo, offline=False)


def test_files_are_at_hand_where_the_hubs_client_has_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repo = Repo(name="cais/mmlu", kind="dataset", commit=world.COMMIT)
    assert not is_cached(repo, "*/test/*.parquet")
    file = repo.cache / "snapshots" / world.COMMIT / "law" / "test" / "0.parquet"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"PAR1")
    assert is_cached(repo, "*/test/*.parquet")
    assert not is_cached(repo, "*/train/*.parquet")
