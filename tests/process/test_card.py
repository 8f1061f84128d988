"""The card passes the check that the Hub's own client asks the Hub for, on a server that checks."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import huggingface_hub.constants
import pytest
import yaml
from huggingface_hub import ModelCard

from llamacpp_pipeline.report.card import render_card
from llamacpp_pipeline.report.hub_licenses import LICENSES
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.document import ResultsDocument
from tests.unit.report.published import CARDS, quality_document
from tests.unit.report.test_untrusted import FRAGMENTS, poisoned
from tests.unit.results.sample import NOBODY, sample_run

REPO = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
TEXTS = ("license", "license_name", "base_model", "base_model_relation", "library_name",
         "pipeline_tag", "quantized_by")  # fmt: skip


def complaints(content: str) -> list[str]:
    """What is wrong with a card's metadata by the rules that the Hub documents."""
    found = re.match(r"---\n(.*?)\n---(\n|$)", content, re.DOTALL)
    if found is None:
        return ["no metadata"]
    try:
        data = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        return [f"no YAML: {error}"]
    if not isinstance(data, dict):
        return ["no mapping"]
    return [*_forms(data), *_names(data), *_index(data.get("model-index", []))]


def _forms(data: dict[str, Any]) -> Iterator[str]:
    for key in TEXTS:
        if key in data and (not isinstance(data[key], str) or not data[key]):
            yield f"{key}: no text"
    for key in ("language", "tags"):
        if not all(isinstance(one, str) and one for one in data.get(key, [])):
            yield f"{key}: no list of texts"


def _names(data: dict[str, Any]) -> Iterator[str]:
    if data.get("license", "mit") not in LICENSES:
        yield f"license: {data['license']} is not known"
    if data.get("license") == "other" and not data.get("license_name"):
        yield "license_name: needed with `other`"
    if "base_model" in data and REPO.fullmatch(str(data["base_model"])) is None:
        yield "base_model: no id of a model"
    if data.get("base_model_relation", "quantized") != "quantized":
        yield "base_model_relation: unknown"
    if any(not re.fullmatch(r"[a-z]{2,3}(-\w+)*", str(one)) for one in data.get("language", [])):
        yield "language: no ISO 639 code"


def _index(index: Any) -> Iterator[str]:  # noqa: ANN401 - any YAML value
    for model in index:
        if not isinstance(model.get("name"), str) or not model["name"]:
            yield "model-index: no name"
        for result in model.get("results", []):
            if not result.get("task", {}).get("type"):
                yield "model-index: no task type"
            if not result.get("dataset", {}).get("type") or not result["dataset"].get("name"):
                yield "model-index: no dataset"
            for metric in result.get("metrics") or [{}]:
                if not metric.get("type") or not isinstance(metric.get("value"), (int, float)):
                    yield "model-index: no metric"


class Checker(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base's name
        """Be quiet."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        wrong = complaints(asked["content"])
        if self.path != "/api/validate-yaml" or asked["repoType"] != "model":
            wrong = [f"not asked that way: {self.path}"]
        body = json.dumps({"errors": [{"message": one} for one in wrong], "warnings": []}).encode()
        self.send_response(400 if wrong else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def hub() -> Iterator[None]:
    """The Hub's client asks a server of ours."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Checker)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        patch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
        yield
    server.shutdown()
    thread.join()
    server.server_close()


def sample() -> ResultsDocument:
    return results_document(sample_run(), redactor=NOBODY)


@pytest.mark.parametrize("card", CARDS)
def test_a_published_cards_metadata_is_accepted(hub: None, card: str) -> None:
    del hub
    ModelCard(render_card(quality_document(card))).validate()


@pytest.mark.parametrize("text", [f"x{fragment}" for fragment in FRAGMENTS if fragment.strip()])
def test_text_of_others_does_not_make_it_refused(hub: None, text: str) -> None:
    del hub
    ModelCard(render_card(poisoned(text))).validate()


@pytest.mark.parametrize(
    ("there", "instead", "message"),
    [
        ("license: apache-2.0", "license: nonesuch", "license: nonesuch is not known"),
        ("base_model: someone/Tiny", "base_model: [a, b", "no YAML"),
        ("base_model: someone/Tiny", "base_model: Tiny", "no id of a model"),
        ("- en\n", "- English\n", "no ISO 639 code"),
        ("value: 12.5\n", "value: much\n", "no metric"),
        ("---\n", "", "no metadata"),
    ],
)
def test_the_server_does_refuse_what_is_wrong(there: str, instead: str, message: str) -> None:
    card = render_card(sample())
    assert there in card

    assert any(message in one for one in complaints(card.replace(there, instead, 1)))


def test_a_refusal_reaches_the_caller(hub: None) -> None:
    del hub
    card = ModelCard(render_card(sample()))
    card.data["license"] = "nonesuch"

    with pytest.raises(ValueError, match="license: nonesuch is not known"):
        card.validate()
