"""Text of others changes what the card says, never how it is built.

The card is read as a Hub reads it (GFM: tables, bare links, HTML): whatever stands in a name, a
licence or a file name, the sequence of its headings, tables, rows, cells, links and tags stays.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from llamacpp_pipeline.report.card import render_card
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.table import Origin, VariantRow
from llamacpp_pipeline.results.tasks import TaskFacts
from llamacpp_pipeline.stages.weights import TensorTrouble
from tests.unit.report.allocated import allocated
from tests.unit.report.scored import scored_sample
from tests.unit.results.sample import NOBODY, sample_run

READER = MarkdownIt("gfm-like")
FRAGMENTS = (
    "|", "||", "\\|", "\\", "`", "``", "```", "~~~", "\n", "\r\n", "\n\n", "\t", "    ", "\u2028",
    "<script>alert(1)</script>", "<img src=x onerror=y>", "</table>", "<!--", "-->", "&lt;b&gt;",
    "[a](http://e.vil)", "![a](http://e.vil/x.png)", "[a]: http://e.vil", "[a]", "](", "(", ")",
    "<http://e.vil>", "http://e.vil", "https://e.vil/?q=1", "www.e.vil", "me@e.vil",
    "HTTPS://E.VIL", "ftp://e.vil", "javascript:alert(1)", "mailto:a@e.vil", "**b**", "__b__",
    "*i*", "_i_", "~~s~~", "# h", "## h", "- l", "+ l", "1. l", "1) l", "> q", "---", "===",
    "***", "| a | b |", "|---|---|", "$x$", "$$", "{{ 7 * 7 }}", "{% raw %}", "\x00", "\x1b[31m",
    "a", "Z", "9", "é", "名", " ", "]]>", "<details>", "&", "&#60;", "&amp;", "<a href='x'>", "--",
    "\u202e", "^", ":", ";", "@", "e.vil",
)  # fmt: skip
ALWAYS = tuple(f"x{fragment}y" for fragment in FRAGMENTS)
PLAIN = "plain"
LLAMA = "https://github.com/ggml-org/llama.cpp"
LEAVES = {"text", "text_special"}


def mixed(seed: int) -> str:
    chance = random.Random(seed)  # noqa: S311  no secret
    return "".join(chance.choice(FRAGMENTS) for _ in range(chance.randint(1, 12)))


def poisoned(text: str) -> ResultsDocument:
    """A document with the text wherever others' text can stand."""
    document = allocated(scored_sample())
    named = f"n{text}"  # names are never empty
    rows = tuple(_row(row, at, named) for at, row in enumerate(document.variants))
    corpus = document.conditions.corpus.model_copy(
        update={"label": named, "source": f"{named}@{named}"}
    )
    calibration = document.conditions.calibration
    assert calibration is not None
    assert document.speed is not None
    assert document.weights is not None
    worst = TensorTrouble(name=named, dtype=named, n_values=9, max_abs=1e5, n_overflow=1,
                          n_to_zero=0, n_subnormal=0, n_nan=0, n_inf=0)  # fmt: skip
    comparison = document.comparisons[0].model_copy(
        update={
            "variant": rows[1].label, "against": rows[0].label,
            "variant_label": named, "against_label": named,
        }
    )  # fmt: skip
    changes = {
        "name": named,
        "model": document.model.model_copy(
            update={"repo": named, "commit": named, "pre_tokenizer": named, "license": named,
                    "tags": (named,), "languages": (named,), "pipeline_tag": named}
        ),
        "publication": document.publication.model_copy(
            update={"title": named, "license": named, "base_model": named, "quantized_by": named}
        ),
        "conditions": document.conditions.model_copy(
            update={
                "corpus": corpus, "commit": named,
                "calibration": calibration.model_copy(update={"text": corpus}),
            }
        ),
        "speed": document.speed.model_copy(update={"cpu": named, "gpu": named, "backends": named}),
        "toolchain": document.toolchain.model_copy(update={"note": named, "backend": named}),
        "weights": document.weights.model_copy(update={"fits_f16": False, "worst": (worst,)}),
        "variants": rows,
        "references": (
            rows[0].model_copy(
                update={
                    "kind": "other", "label": f"{named}?", "recipe": None, "allocation": None,
                    "origin": Origin(repo=named, commit=named, quantized_by=named,
                                     imatrix_dataset=named, notes=(named,)),
                }
            ),
        ),
        "tasks": _tasks(document, named),
        "reference": document.reference.model_copy(update={"file": f"{named}.gguf"}),
        "comparisons": (comparison,),
        "incomplete": (named,),
        "commands": tuple(
            command.model_copy(update={"argv": (*command.argv, named)})
            for command in document.commands
        ),
    }  # fmt: skip
    return document.model_copy(update=changes)


def _row(row: VariantRow, at: int, text: str) -> VariantRow:
    assert row.recipe is not None
    recipe = row.recipe.model_copy(
        update={"ftype": text, "tensor_types": {text: text}, "overridden": {text: 1},
                "fallbacks": (text,)}
    )  # fmt: skip
    named = {"label": f"{text}{at}", "file": f"{text}{at}.gguf", "recipe": recipe}
    if row.allocation is not None:
        tensors = tuple(
            tensor.model_copy(update={"name": text, "role": text, "type": text})
            for tensor in row.allocation.tensors
        )
        chosen = row.allocation.model_copy(update={"tensors": tensors, "matched": text})
        named["allocation"] = chosen
    return row.model_copy(update=named)


def _tasks(document: ResultsDocument, text: str) -> TaskFacts:
    assert document.tasks is not None
    sets = tuple(
        each.model_copy(update={"title": text, "template": text, "citation": text, "licence": text})
        for each in document.tasks.sets
    )
    pairs = {
        name: tuple(
            pair.model_copy(update={"one": text, "other": text})
            for pair in getattr(document.tasks, name)
        )
        for name in ("against_reference", "between", "averages")
    }
    return document.tasks.model_copy(update={"sets": sets, **pairs})


def shape(card: str) -> list[tuple[str, ...]]:
    """How the body is built: every token but the words themselves."""
    _, _, body = card.partition("\n---\n")
    return [found for token in READER.parse(body) for found in _shape(token)]


def _shape(token: Token) -> Iterator[tuple[str, ...]]:
    target = str(token.attrs.get("href", token.attrs.get("src", "")))
    html = token.content if token.type.startswith("html") else ""
    yield (token.type, token.tag, target, html)
    for child in token.children or ():
        if child.type not in LEAVES:
            yield from _shape(child)


EXPECTED = shape(render_card(poisoned(PLAIN)))


def test_the_plain_card_is_what_it_should_be() -> None:
    kinds = [found[0] for found in EXPECTED]

    assert kinds.count("table_open") >= 15
    assert {found[2] for found in EXPECTED if found[0] == "link_open"} == {LLAMA}
    html = {found[3] for found in EXPECTED if found[0].startswith("html")}
    own = r"<details>\n<summary>[^<>]*</summary>\n|</details>\n"
    assert [text for text in html if re.fullmatch(own, text) is None] == []
    assert len(html) > 2


@pytest.mark.parametrize("text", ALWAYS)
def test_no_single_fragment_changes_how_the_card_is_built(text: str) -> None:
    assert shape(render_card(poisoned(text))) == EXPECTED


@pytest.mark.parametrize("seed", range(40))
def test_no_mixture_of_them_does(seed: int) -> None:
    text = mixed(seed)

    assert shape(render_card(poisoned(text))) == EXPECTED, repr(text)


def test_a_hub_id_is_the_only_link() -> None:
    body = READER.render(render_card(results_document(sample_run(), redactor=NOBODY)))

    links = re.findall(r'href="([^"]*)"', body)
    assert set(links) == {"https://huggingface.co/someone/Tiny", LLAMA}
