from __future__ import annotations

import hashlib
import re
import sys
from itertools import combinations
from pathlib import Path

import pytest

from llamacpp_pipeline.datasets.overlap import shared_share
from llamacpp_pipeline.demo import PARTS, Part, demo_text, text
from llamacpp_pipeline.stages.check_probe import MOST_SHARED


@pytest.mark.parametrize(("one", "other"), list(combinations(PARTS, 2)))
def test_no_two_parts_share_a_paragraph(one: Part, other: Part) -> None:
    def shown(part: Part) -> set[str]:
        return {text.normalised(found) for found in text.split_paragraphs(demo_text(part))}

    assert not shown(one) & shown(other)


def test_a_document_is_in_the_part_that_the_hash_of_its_name_says() -> None:
    assert text.part_of("module json.encoder") == "calibration"
    assert text.part_of("module inspect") == "evaluation"
    assert text.part_of("topic raise") == "evaluation"
    assert text.part_of("module datetime") == "train"


@pytest.mark.parametrize("part", PARTS)
def test_a_text_is_clean_and_ends_with_one_newline(part: Part) -> None:
    found = demo_text(part)
    assert found.encode().decode() == found
    assert found.endswith("\n")
    assert not found.endswith("\n\n")
    assert not {"\r", "\t", "\0"} & set(found)


@pytest.mark.parametrize("part", PARTS)
def test_a_text_is_the_same_when_made_again(part: Part) -> None:
    before = hashlib.sha256(demo_text(part).encode()).hexdigest()
    for made in (text.demo_text, text.paragraphs, text._documents):
        made.cache_clear()
    assert hashlib.sha256(demo_text(part).encode()).hexdigest() == before


def test_the_probe_text_is_some_of_the_training_part_and_none_of_the_others() -> None:
    def shown(part: text.Text) -> set[str]:
        return {text.normalised(found) for found in text.split_paragraphs(demo_text(part))}

    probe = shown("probe")
    assert probe <= shown("train")
    assert not probe & (shown("evaluation") | shown("calibration"))
    assert 40_000 < len(demo_text("probe")) < 200_000


def test_the_text_to_choose_on_is_none_of_the_others_to_the_passage() -> None:
    found = demo_text("selection")

    assert 100_000 < len(found) < 400_000
    for other in ("evaluation", "calibration", "probe"):
        assert shared_share(found, [demo_text(other)]) < MOST_SHARED / 2


def test_the_parts_are_large_enough_and_most_is_for_training() -> None:
    assert 80_000 < len(demo_text("evaluation")) < 250_000
    assert 100_000 < len(demo_text("calibration")) < 400_000
    assert len(demo_text("train")) > 1_200_000


def test_a_paragraph_of_an_earlier_part_is_left_out_and_its_declaration_with_it() -> None:
    entry = text._Entry("def f():", "    ", ["Kept.", "Taken  already."])
    assert str(entry.without([frozenset({"taken already."})])) == "    def f():\n        Kept."
    assert not entry.without([frozenset({"kept.", "taken already."})]).paragraphs


def test_docstrings_come_with_the_lines_that_declare_them(tmp_path: Path) -> None:
    source = tmp_path / "source.py"
    source.write_text(
        '"""Module.\n\nMore."""\n'
        "class A(B):\n"
        '    """Class."""\n'
        "    if True:\n"
        "        def f(self, x=1):\n"
        '            r"""Method \\d."""\n'
        "    def g(self): pass\n",
        encoding="utf-8",
    )
    found = "\n\n".join(map(str, text._docstrings(source)))
    assert found == (
        "Module.\n\nMore.\n\nclass A(B):\n    Class.\n\n    def f(self, x=1):\n        Method \\d."
    )


@pytest.mark.parametrize("name", ["text.py", "__init__.py"])
def test_the_text_needs_nothing_but_the_standard_library(name: str) -> None:
    source = Path(text.__file__).with_name(name).read_text(encoding="utf-8")
    imported = set(re.findall(r"^(?:from|import) (\w+)", source, re.MULTILINE))
    assert imported <= sys.stdlib_module_names | {"llamacpp_pipeline"}
