"""The card's help for a downloader."""

from __future__ import annotations

from llamacpp_pipeline.report.card import render_card
from llamacpp_pipeline.report.choosing import choose_table, other_files, start_commands
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.rivals import Beaten, KldDifference
from llamacpp_pipeline.results.table import Origin
from tests.unit.report.allocated import allocated
from tests.unit.report.published import quality_document
from tests.unit.results.sample import NOBODY, sample_run

LOST = KldDifference(value=0.01, stderr=0.001, bound=0.002, paired=True)


def document() -> ResultsDocument:
    """The sample, with no file that another beats."""
    return results_document(sample_run(), redactor=NOBODY).model_copy(update={"beaten": ()})


def lines(document: ResultsDocument) -> list[str]:
    return choose_table(document).splitlines()


def test_the_largest_file_comes_first_and_others_files_are_not_offered() -> None:
    files = [
        line.split("|")[1].strip() for line in lines(quality_document("target-bpw-qwen3.5-9b"))
    ]

    assert files[2] == "`Qwen3.5-9B-Q8_0.gguf`"
    assert files[-1] == "`Qwen3.5-9B-IQ1_M.gguf`"
    assert not any("unsloth" in file for file in files)


def test_without_an_estimate_only_the_weights_are_told_and_it_is_said() -> None:
    head = lines(document())[0]
    card = render_card(document())

    assert head == "| File | Size | Memory for the weights | μKLD |"
    assert "come on top and were not estimated" in card
    assert "llama.cpp's own estimate" not in card


def test_memory_is_told_by_context_where_it_was_estimated() -> None:
    found = allocated(document())
    head, _, *rows = lines(found)

    assert head == "| File | Size | Memory at 32768 tokens, q8_0 cache | μKLD |"
    by_file = {row.split("|")[1].strip(): row.split("|")[3].strip() for row in rows}
    assert by_file["`Tiny-Q4_K_M.gguf`"] == "1.25 GiB"
    assert by_file["`Tiny-Q4_K_M-selective.gguf`"] == "-"
    assert "llama.cpp's own estimate" in render_card(found)


def test_a_file_that_another_beats_is_marked_and_not_the_example() -> None:
    lost = Beaten(label="Q4_K_M", by="Q4_K_M-selective", difference=LOST)
    found = document().model_copy(update={"beaten": (lost,)})

    assert "| Q4_K_M-selective is no larger and closer |" in choose_table(found)
    assert "llama-cli -m Tiny-Q4_K_M-selective.gguf" in start_commands(found)


def test_a_file_name_with_blanks_is_quoted_in_a_command() -> None:
    row = document().variants[0].model_copy(update={"file": "a b'; rm -rf.gguf"})

    commands = start_commands(document().model_copy(update={"variants": (row,)}))

    assert "llama-cli -m 'a b'\"'\"'; rm -rf.gguf'" in commands


def test_another_publishers_file_is_told_with_where_it_comes_from() -> None:
    origin = Origin(repo="them/Tiny-GGUF", commit="c" * 40, quantized_by="Them", notes=("no MTP",))
    row = (
        document()
        .variants[0]
        .model_copy(update={"kind": "other", "label": "theirs", "file": "t.gguf", "origin": origin})
    )

    (told,) = other_files(document().model_copy(update={"references": (row,)}))

    assert told == (
        "theirs: `t.gguf`, of [them/Tiny-GGUF](https://huggingface.co/them/Tiny-GGUF) at commit "
        "`cccccccccccc`, quantized by Them, no MTP"
    )
