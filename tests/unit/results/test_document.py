"""results.json: whole, readable again, documented, free of NaN."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from pydantic import ValidationError

from llamacpp_pipeline.errors import InputError, PipelineError
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.describe import fields_markdown, schema, schema_json
from llamacpp_pipeline.results.document import (
    ResultsDocument,
    document_from_json,
    document_json,
    read_results,
)
from tests.unit.results.sample import (
    COMMIT,
    CREATED,
    NOBODY,
    kld_result,
    sample_run,
    with_result,
)

DOCS = Path(__file__).resolve().parents[3] / "docs"


def document() -> ResultsDocument:
    return results_document(sample_run(), created=CREATED, redactor=NOBODY)


def test_it_reads_back_as_it_was_written() -> None:
    assert document_from_json(document_json(document())) == document()


def test_it_holds_facts_conditions_and_figures() -> None:
    found = document()

    assert found.created == "2026-01-02T03:04:05Z"
    assert (found.model.source, found.model.repo, found.model.commit) == (
        "hub",
        "someone/Tiny",
        "c" * 40,
    )
    assert found.model.n_parameters == 5_600_000
    assert found.weights is not None
    assert (found.weights.n_to_zero, found.weights.n_tensors_affected) == (7, 1)
    assert found.toolchain.commit == COMMIT
    assert found.noise_floor is not None
    assert found.publication.base_model == "someone/Tiny"
    assert found.publication.license == "apache-2.0"
    assert [(c.variant, c.against, c.against_label) for c in found.comparisons] == [
        ("Q4_K_M-selective", "Q4_K_M", "plain")
    ]
    assert found.incomplete == ()


def test_what_the_config_says_goes_before_what_is_inherited() -> None:
    card = {"license": "mit", "base_model": "first/Tiny", "title": "My Tiny"}
    found = results_document(sample_run(config={"card": card}), redactor=NOBODY).publication

    assert (found.license, found.base_model, found.title) == ("mit", "first/Tiny", "My Tiny")


def test_unfinished_steps_are_named_and_their_comparison_left_out() -> None:
    run = sample_run(without=("kld/Q4_K_M", "weights", "inspect"))
    found = results_document(run, redactor=NOBODY)

    assert found.incomplete == ("inspect", "weights", "kld/Q4_K_M")
    assert found.comparisons == ()
    assert found.weights is None
    assert found.model.n_parameters is None
    assert found.publication.license is None


def test_commands_carry_published_names() -> None:
    commands = {command.step: command.argv for command in document().commands}

    assert commands["quantize/Q4_K_M"] == (
        "llama-quantize", "--model", "Tiny-F16.gguf", "--imatrix", "Tiny-imatrix.gguf",
        "Tiny-Q4_K_M.gguf",
    )  # fmt: skip
    assert commands["reference"] == (
        "llama-reference", "--model", "Tiny-F16.gguf", "--corpus", "corpus.bin",
        "Tiny-logits.kld",
    )  # fmt: skip
    assert commands["convert"] == ("llama-convert", "--model", "Tiny", "Tiny-F16.gguf")
    assert "fetch" not in commands


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_figure_that_is_no_number_is_refused(value: float) -> None:
    percentiles = {**kld_result()["kld_percentiles"], "99.9": value}
    run = with_result(sample_run(), "kld/Q4_K_M", kld_percentiles=percentiles)

    with pytest.raises(PipelineError, match=r"record of kld/Q4_K_M: kld_percentiles\.99\.9"):
        results_document(run, redactor=NOBODY)


def test_the_document_itself_takes_no_nan() -> None:
    data = document().model_dump()
    data["variants"][0]["quality"]["max_kld"] = math.nan

    with pytest.raises(ValidationError, match=r"variants\[0\]\.quality\.max_kld"):
        ResultsDocument.model_validate(data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("{", "not JSON", id="cut-short"),
        pytest.param('{"schema_version": NaN}', "not JSON", id="nan"),
        pytest.param("[]", "schema_version is None", id="no-object"),
        pytest.param('{"schema_version": 2}', "schema_version is 2", id="newer"),
        pytest.param('{"schema_version": 1}', "not a results document", id="other-form"),
    ],
)
def test_unreadable_results_say_why(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        document_from_json(text)

    assert caught.value.hint


def test_a_folder_without_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"results\.json: cannot be read"):
        read_results(tmp_path)


def test_every_field_of_the_schema_has_a_description() -> None:
    generated = schema()

    for definition in (generated, *generated["$defs"].values()):
        for name, field in definition["properties"].items():
            assert field["description"], f"{definition['title']}.{name}"


@pytest.mark.parametrize(
    ("name", "made"),
    [("results.schema.json", schema_json), ("results.md", fields_markdown)],
)
def test_the_generated_documentation_is_up_to_date(name: str, made: object) -> None:
    assert callable(made)
    kind = "json" if name.endswith("json") else "markdown"

    assert (DOCS / name).read_text(encoding="utf-8") == made(), (
        f"stale: llamacpp-pipeline results --schema {kind} > docs/{name}"
    )


def test_json_has_no_nan_and_keeps_text_as_it_is() -> None:
    text = document_json(document())

    assert "NaN" not in text
    assert json.loads(text)["schema_version"] == 1
    assert text.endswith("}\n")
