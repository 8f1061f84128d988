"""The card's template: tidy, overridable, and refused where it is broken."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llamacpp_pipeline.cli.deliver import carded
from llamacpp_pipeline.errors import InputError
from llamacpp_pipeline.report.card import render_card
from llamacpp_pipeline.report.template import TEMPLATES, refuse_broken_template, tidied
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.document import ResultsDocument
from tests.unit.results.sample import NOBODY, sample_run

EXTENDS = '{% extends "card.md.j2" %}'


def with_template(template: str) -> ResultsDocument:
    return results_document(sample_run(), redactor=NOBODY, template=template)


@pytest.mark.parametrize(
    ("text", "tidy"),
    [
        pytest.param("\n\na\n\n\n\nb\n\n", "a\n\nb", id="between-paragraphs"),
        pytest.param("```\na\n\n\nb\n```\n\n\nc", "```\na\n\n\nb\n```\n\nc", id="not-in-code"),
        pytest.param("~~~\n```\n\n\n~~~\n\n\nc", "~~~\n```\n\n\n~~~\n\nc", id="other-fence"),
        pytest.param("````\n```\n\n\n````", "````\n```\n\n\n````", id="longer-fence"),
    ],
)
def test_one_blank_line_is_left(text: str, tidy: str) -> None:
    assert tidied(text) == tidy


def test_every_section_file_is_included_by_the_base() -> None:
    base = (TEMPLATES / "card.md.j2").read_text()
    files = sorted(path.name for path in (TEMPLATES / "sections").glob("*.md.j2"))

    assert files
    assert [name for name in files if f'"sections/{name}"' not in base] == []


def test_every_block_is_documented() -> None:
    base = (TEMPLATES / "card.md.j2").read_text()
    documented = (Path(__file__).parents[3] / "docs" / "card.md").read_text()
    blocks = re.findall(r"{% block (\w+) %}", base)

    assert len(blocks) > 15
    assert [block for block in blocks if f"`{block}`" not in documented] == []


def test_a_template_of_the_publishers_own_replaces_blocks() -> None:
    card = render_card(
        with_template(
            EXTENDS + "{% block credits %}## Credits\n\nThanks, {{ model.repo }}.{% endblock %}"
            "{% block metrics %}{% endblock %}"
            "{% block quality %}{{ super() }}\n\nMine.{% endblock %}"
        )
    )

    assert "## Credits\n\nThanks, someone/Tiny." in card
    assert "## What the figures mean" not in card
    assert "\n\nMine.\n\n## " in card
    assert "## Quality" in card


def test_it_is_kept_in_the_results() -> None:
    assert with_template("x").publication.template == "x"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        pytest.param("{% block x %}", r"card\.template, line 1: cannot be filled", id="syntax"),
        pytest.param("{{ y | nofilter }}", "No filter named 'nofilter'", id="filter"),
    ],
)
def test_a_broken_template_is_refused_before_a_run(template: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        refuse_broken_template(template)

    assert "docs/card.md" in (refusal.value.hint or "")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        pytest.param("{{ nothing_such }}", "'nothing_such' is undefined", id="undefined"),
        pytest.param("{{ document.noise_floor.max_kld }}", "no written form", id="float"),
        pytest.param("{{ model.license.__class__ }}", "unsafe", id="sandbox"),
        pytest.param('{% include "/etc/passwd" %}', "etc/passwd", id="file"),
        pytest.param("{{ 1 // 0 }}", "division", id="arithmetic"),
    ],
)
def test_what_a_template_cannot_print_is_an_error_that_loses_nothing(
    template: str, message: str
) -> None:
    document = with_template(template)

    with pytest.raises(InputError, match=message):
        render_card(document)
    card, refusal = carded(document, None)
    assert isinstance(refusal, InputError)
    assert card == render_card(results_document(sample_run(), redactor=NOBODY))
