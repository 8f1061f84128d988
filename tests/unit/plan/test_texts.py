"""Texts of the registry, and texts that stand in columns, in a plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamacpp_pipeline.config.corpus import CorpusConfig
from llamacpp_pipeline.config.load import load
from llamacpp_pipeline.datasets.corpus import known_corpus
from llamacpp_pipeline.datasets.registry import known_texts
from llamacpp_pipeline.errors import ConfigError
from llamacpp_pipeline.plan.sources import HubCommit, Sources
from llamacpp_pipeline.plan.step import OutputRef
from llamacpp_pipeline.stages.fetch import FetchParams
from llamacpp_pipeline.stages.text import TextParams
from tests.unit.plan import world

COMMIT = HubCommit(commit=world.COMMIT)
MODEL = world.leaf("model")


def test_a_text_of_the_registry_is_the_file_that_it_names() -> None:
    by_name = world.config(evaluation={"corpus": {"dataset": "wikitext-2-raw"}})
    by_file = {
        "repo": "ggml-org/ci",
        "repo_type": "dataset",
        "file": "wikitext-2-raw-v1.zip",
        "member": "wikitext-2-raw/wiki.test.raw",
        "sha256": known_texts()["wikitext-2-raw"].sha256,
    }
    sources = Sources(model=MODEL, evaluation=COMMIT)
    named = world.plan(sources, evaluation={"corpus": {"dataset": "wikitext-2-raw"}})
    plain = world.plan(sources, evaluation={"corpus": {"hub": by_file}})
    assert named.step("fetch-evaluation").params == plain.step("fetch-evaluation").params
    assert named.step("reference").inputs == plain.step("reference").inputs
    assert by_name.evaluation.corpus.same_text(CorpusConfig.model_validate({"hub": by_file}))
    assert known_corpus(known_texts()["wikitext-2-raw"].sha256) is not None


def test_a_calibration_set_in_columns_becomes_a_text_first() -> None:
    sources = Sources(model=MODEL, evaluation=world.leaf("wiki"), calibration=(COMMIT,))
    plan = world.plan(sources, calibration={"corpus": {"dataset": "imatrix-calibration-en"}})
    fetched = plan.step("fetch-calibration").params
    assert isinstance(fetched, FetchParams)
    assert fetched.files == ("text_en_medium.parquet",)
    step = plan.step("text/calibration")
    assert step.params == TextParams(container="parquet")
    assert step.inputs == {
        "source": OutputRef(
            step="fetch-calibration", output="files", member="text_en_medium.parquet"
        )
    }
    made = OutputRef(step="text/calibration", output="text")
    assert plan.step("imatrix").inputs["corpus"] == made
    assert plan.step("check-texts").inputs["text1"] == made


def test_local_columns_are_compared_once_they_are_text() -> None:
    file = world.leaf("a.parquet")
    sources = Sources(model=MODEL, evaluation=world.leaf("wiki"), calibration=(file, COMMIT))
    texts = [
        {"path": "a.parquet", "column": "content"},
        {"dataset": "imatrix-calibration-code"},
    ]
    plan = world.plan(sources, calibration={"texts": texts})
    assert plan.step("text/calibration/a.parquet").params == TextParams(
        container="parquet", column="content"
    )
    assert plan.step("text/calibration/a.parquet").inputs == {"source": file}
    assert plan.step("check-texts").inputs == {
        "evaluation": world.leaf("wiki"),
        "text1": OutputRef(step="text/calibration/a.parquet", output="text"),
        "text2": OutputRef(step="text/calibration/imatrix-calibration-code", output="text"),
    }


def test_an_evaluation_text_in_columns_is_measured_as_text() -> None:
    sources = Sources(model=MODEL, evaluation=world.leaf("a.parquet"))
    plan = world.plan(sources, evaluation={"corpus": {"path": "a.parquet"}})
    assert plan.step("reference").inputs["corpus"] == OutputRef(
        step="text/evaluation", output="text"
    )


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        pytest.param(
            "{dataset: wikitext}",
            "no text is named wikitext: did you mean wikitext-2-raw?",
            id="misspelt",
        ),
        pytest.param(
            "{dataset: wikitext-2-raw, demo: evaluation}",
            "give exactly one of `path`, `hub`, `dataset` and `demo`",
            id="two",
        ),
        pytest.param(
            "{demo: evaluation, column: text}",
            "`column` is for Parquet and Arrow files",
            id="column",
        ),
    ],
)
def test_what_is_wrong_with_a_text_is_said(tmp_path: Path, corpus: str, message: str) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(
        f"model: {{demo: true}}\nevaluation: {{corpus: {corpus}}}\nvariants: [Q8_0]\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert message in caught.value.evidence[0]
