"""The card: whole, without empty sections, and nothing of others' text becomes markup."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from llamacpp_pipeline.report.card import render_card
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.document import document_from_json, document_json
from llamacpp_pipeline.results.run import RunRecords
from tests.unit.results.sample import BUILD, NOBODY, changed, digest, sample_run, with_result

NOWHERE = re.compile(r"\b(None|nan|NaN|inf|Undefined|True|False)\b")


def card_of(run: RunRecords) -> str:
    return render_card(results_document(run, redactor=NOBODY))


def headings(card: str) -> list[str]:
    return [line for line in card.splitlines() if line.startswith("## ")]


def bare_run() -> RunRecords:
    """A local folder without a card, one variant without imatrix, nothing measured but PPL."""
    config = {
        "model": {"path": "Tiny"},
        "calibration": None,
        "variants": [{"ftype": "Q8_0", "imatrix": False}],
        "bench": None,
        "card": {},
    }
    without = (
        "imatrix", "inspect", "weights", "kld/reference", "kld/Q8_0", "bench/Q8_0",
        "bench/reference",
    )  # fmt: skip
    return sample_run(config=config, without=without)


def test_a_full_card_has_every_section_once() -> None:
    assert headings(card_of(sample_run())) == [
        "## How it was made",
        "## Which file to choose",
        "## Quality",
        "## Which file is better",
        "## KLD percentiles",
        "## Speed",
        "## What each file is made of",
        "## F16 check",
        "## Activations",
        "## How it was measured",
        "## Checking the files, and making them again",
        "## What the figures mean",
        "## Credits",
        "## Licence",
    ]


def test_a_bare_card_has_no_empty_section() -> None:
    card = card_of(bare_run())

    assert headings(card) == [
        "## How it was made",
        "## Which file to choose",
        "## Quality",
        "## What each file is made of",
        "## How it was measured",
        "## Checking the files, and making them again",
        "## What the figures mean",
        "## Credits",
    ]
    assert "No importance matrix was used" in card
    assert "KLD" not in card.replace("kld/", "")
    assert "Not finished when this was written: `inspect`, " in card


@pytest.mark.parametrize("make", [sample_run, bare_run])
def test_no_card_prints_what_is_not_there(make: Any) -> None:  # noqa: ANN401 - a function
    card = card_of(make())
    body = card.split("---\n", 2)[2]

    assert NOWHERE.findall(body) == []
    assert "\n\n\n" not in card
    assert re.search(r"[^\n]\n#+ ", body) is None  # a blank line before each heading
    assert card.endswith("\n")
    assert not card.endswith("\n\n")
    assert [line for line in card.splitlines() if line != line.rstrip()] == []


def test_the_quality_table_has_one_row_per_file() -> None:
    lines = card_of(sample_run()).splitlines()
    start = lines.index("## Quality")

    assert lines[start + 2] == (
        "| Model | BPW | Size (KiB) | μPPL | \N{GREEK SMALL LETTER RHO}PPL | μKLD | Same Top-P |"
    )
    assert lines[start + 4] == (
        "| Tiny-F16 | 16.0000 | 4.9 | 12.500000 ±0.250000 | 100% | N/A | N/A |"
    )
    assert lines[start + 5] == (
        "| Tiny-Q4_K_M | 4.9000 | 4.9 | 12.600000 ±0.250000 | 99.51% | 0.036272 ±0.000154 "
        "| 94.341 ±0.060 |"
    )


def test_the_tail_of_the_kld_is_in_a_table_of_its_own() -> None:
    assert (
        "| Tiny-Q4_K_M | 0.012300 ±0.001000 | 0.100000 | 0.250000 | 0.500000 | 6.372144 "
        "| 4.321 ±0.054 |"
    ) in card_of(sample_run())


def test_the_speed_table_names_machine_and_backend() -> None:
    card = card_of(sample_run())

    assert "of 5 runs on Some CPU, 2 threads, backend CPU." in card
    assert "| Tiny-Q4_K_M | 0.00 MiB | 0.01 M | CPU | 2 | pp512 | 2000.00 ±1.25 |" in card


def test_a_single_run_has_no_deviation() -> None:
    run = sample_run()
    for key in ("bench/reference", "bench/Q4_K_M", "bench/Q4_K_M-selective"):
        rows = [
            {"test": "pp512", "tokens_per_second": {"value": 20.0, "stderr": 0.0}, "samples": [20]}
        ]
        run = changed(with_result(run, key, rows=rows), key, params={"repetitions": 1})

    card = card_of(run)

    assert "Tokens per second of one run on Some CPU" in card
    assert "| pp512 | 20.00 |" in card
    assert "standard deviation" not in card


def test_overrides_show_regex_type_and_number() -> None:
    assert r"| Q4_K_M-selective | `.*\.ssm_out\.weight$` | q8_0 | 3 |" in card_of(sample_run())


def test_conditions_name_text_cut_build_and_noise_floor() -> None:
    card = card_of(sample_run())

    assert f"- Text: `evaluation.txt` (sha256 `{digest('evaluation.txt')[:12]}`)" in card
    assert "- Cut: 40 chunks of 256 tokens" in card
    assert f"BuildId `{BUILD[:12]}`, backend cpu" in card
    assert "has a mean KLD of 0.000000 ± 0.000154" in card
    assert "from `calibration.txt`" in card


def test_a_fitting_and_an_overflowing_checkpoint() -> None:
    fits = card_of(sample_run())
    weights = {
        "n_overflow": 3, "n_inf": 1, "fits_f16": False, "max_abs": 70000.0,
        "tensors": [
            {"name": "blk.0|x", "dtype": "BF16", "n_values": 4096, "max_abs": 70000.0,
             "n_overflow": 3, "n_to_zero": 0, "n_subnormal": 0, "n_nan": 0, "n_inf": 1}
        ],
    }  # fmt: skip
    overflows = card_of(with_result(sample_run(), "weights", **weights))

    assert "All 5.6 M weights fit F16: the largest magnitude is 12.25" in fits
    assert "Not zero, but zero in F16: 7; subnormal in F16: 1 234." in fits
    assert "Not all of the 5.6 M weights fit F16: 3 are beyond" in overflows
    assert r"| `blk.0\|x` | 3 | 1 | 70000 |" in overflows


def test_commands_are_shown_once_for_all_measurements() -> None:
    card = card_of(sample_run())

    assert card.count("llama-quantize --model Tiny-F16.gguf") == 2
    assert card.count("llama-kld ") == 1
    assert card.count("llama-bench ") == 1
    assert "llama-kld --model Tiny-Q4_K_M.gguf --logits Tiny-logits.kld" in card


def test_another_checkout_is_said() -> None:
    run = sample_run()
    local = {"note": "built from a checkout of the user's", "commit": "local"}
    run = replace(run, toolchain=run.toolchain.model_copy(update=local))

    card = card_of(run)

    assert "Note on llama.cpp: built from a checkout of the user's" in card
    assert "with llama.cpp by llamacpp-pipeline" in card
    assert "- llama.cpp: BuildId" in card
    assert "`local`" not in card


def test_the_publishers_notes_are_markdown_of_their_own() -> None:
    card = card_of(sample_run(config={"card": {"notes": "**Bold** [link](https://x.y)\n"}}))

    assert "\n\n**Bold** [link](https://x.y)\n\n" in card


def test_text_of_others_is_escaped_everywhere() -> None:
    evil = "a|b <img src=x> [c](http://d) `e`"
    run = sample_run(
        config={
            "card": {
                "title": evil,
                "license": evil,
                "base_model": evil,
                "compare": [
                    {"variant": "Q4_K_M-selective", "against": "Q4_K_M", "against_label": evil}
                ],
            }
        }
    )
    for key in ("bench/reference", "bench/Q4_K_M", "bench/Q4_K_M-selective"):
        run = with_result(run, key, cpu=evil)

    body = card_of(run).split("---\n", 2)[2]

    assert "<img" not in body.replace(r"\<img", "")
    assert "[c](" not in body.replace(r"\[c\](", "")
    assert (
        body.count(r"a\|b \<img src=x\>") == 6
    )  # title, about, heading, machine, credits, licence


def test_the_card_comes_from_results_json_alone() -> None:
    document = results_document(sample_run(), redactor=NOBODY)

    assert render_card(document_from_json(document_json(document))) == render_card(document)


def test_each_file_has_its_digest_and_its_recipe_where_it_says_one() -> None:
    run, recipe = sample_run(), digest("recipe")
    plain = card_of(run)
    labelled = changed(run, "quantize/Q4_K_M", labels={"llamacpp_pipeline.recipe.sha256": recipe})

    card = card_of(labelled)

    (sha256,) = (f.sha256 for f in results_document(run).files if f.name == "Tiny-Q4_K_M.gguf")
    assert f"| `Tiny-Q4_K_M.gguf` | `{sha256}` |\n" in plain
    assert f"| `Tiny-Q4_K_M.gguf` | `{sha256}` | `{recipe}` |" in card
    assert "The recipe is the digest" in card
    assert "The recipe is the digest" not in plain
    assert "llamacpp-pipeline reproduce manifest.json" in plain
