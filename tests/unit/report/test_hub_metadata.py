"""The card's front matter: what the Hub wants to know, in forms that it takes, from any input."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData

from llamacpp_pipeline.report.card import render_card
from llamacpp_pipeline.report.hub_metadata import evaluations
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.run import RunRecords
from tests.unit.report.test_card import bare_run
from tests.unit.results.sample import NOBODY, digest, sample_run, with_result


def document_of(run: RunRecords) -> ResultsDocument:
    return results_document(run, redactor=NOBODY)


def front(run: RunRecords) -> dict[str, Any]:
    _, matter, _ = render_card(document_of(run)).split("---\n", 2)
    found = yaml.safe_load(matter)
    assert isinstance(found, dict)
    return found


def without_index(matter: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in matter.items() if key != "model-index"}


def test_it_says_what_the_hub_wants_to_know() -> None:
    assert without_index(front(sample_run())) == {
        "base_model": "someone/Tiny",
        "base_model_relation": "quantized",
        "license": "apache-2.0",
        "language": ["en"],
        "library_name": "gguf",
        "pipeline_tag": "text-generation",
        "tags": ["gguf", "quantized", "llama.cpp", "imatrix", "tiny"],
    }


def test_it_leaves_out_what_is_not_known() -> None:
    assert without_index(front(bare_run())) == {
        "library_name": "gguf",
        "tags": ["gguf", "quantized", "llama.cpp"],
    }


def test_the_model_index_has_each_files_figures_under_their_conditions() -> None:
    (model,) = front(sample_run())["model-index"]
    (result,) = model["results"]

    assert model["name"] == "Tiny GGUF"
    assert result["task"] == {"type": "text-generation", "name": "Text Generation"}
    assert result["dataset"] == {
        "type": "evaluation.txt",
        "name": "evaluation.txt",
        "args": {"n_ctx": 256, "n_chunks": 40, "sha256": digest("evaluation.txt")},
    }
    assert [(one["name"], one["type"], one["value"]) for one in result["metrics"]] == [
        ("perplexity of F16", "perplexity", 12.5),
        ("perplexity of Q4_K_M", "perplexity", 12.6),
        ("mean KLD of Q4_K_M", "mean_kld", 0.036272),
        ("perplexity of Q4_K_M-selective", "perplexity", 12.58),
        ("mean KLD of Q4_K_M-selective", "mean_kld", pytest.approx(0.0290176)),
    ]


def test_a_text_of_the_hub_is_named_with_its_commit() -> None:
    document = document_of(sample_run())
    corpus = document.conditions.corpus.model_copy(update={"source": f"org/wikitext@{'a' * 40}"})
    under = document.conditions.model_copy(update={"corpus": corpus})

    result = evaluations(document.model_copy(update={"conditions": under}))[0]

    assert (result.dataset_type, result.dataset_revision) == ("org/wikitext", "a" * 40)


@pytest.mark.parametrize("make", [sample_run, bare_run])
def test_the_hubs_own_reader_gets_back_what_was_written(make: Any) -> None:  # noqa: ANN401
    document = document_of(make())
    card = ModelCard(render_card(document))

    assert isinstance(card.data, ModelCardData)
    assert card.data.eval_results == evaluations(document)
    assert card.text.lstrip().startswith("# Tiny GGUF")
    again = yaml.safe_load(card.data.to_yaml())
    assert again == front(make())


@pytest.mark.parametrize(
    ("given", "written"),
    [
        pytest.param("Apache-2.0", {"license": "apache-2.0"}, id="known"),
        pytest.param(
            "a: [b", {"license": "other", "license_name": "a: [b"}, id="not-one-of-the-hubs"
        ),
        pytest.param("x\n---\ny", {"license": "other", "license_name": "x --- y"}, id="lines"),
        pytest.param("  ", {}, id="blank"),
    ],
)
def test_a_licence_that_the_hub_does_not_know_is_other(given: str, written: dict[str, str]) -> None:
    matter = front(with_result(sample_run(), "inspect", license=given))

    assert {key: matter[key] for key in matter if key.startswith("license")} == written


def test_it_cannot_be_broken_by_a_tag() -> None:
    run = with_result(sample_run(), "inspect", tags=["x\n---\nevil: 1", "a: b", "#c", " "])

    matter = front(run)

    assert matter["tags"][-3:] == ["x --- evil: 1", "a: b", "#c"]
    assert "evil" not in matter


def test_what_is_no_language_no_task_and_no_model_of_the_hub_is_left_out() -> None:
    run = sample_run(config={"card": {"base_model": "not a/model id"}})
    run = with_result(run, "inspect", languages=["en", "Klingon!", "zh-Hans"], pipeline_tag="<b>")

    matter = front(run)

    assert matter["language"] == ["en", "zh-Hans"]
    assert {"pipeline_tag", "base_model", "base_model_relation"}.isdisjoint(matter)
