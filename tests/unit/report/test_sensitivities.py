"""The card's findings on sensitivity."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from llamacpp_pipeline.cli.sensitivity import sensitivity
from llamacpp_pipeline.errors import UsageError
from llamacpp_pipeline.report.card import render_card
from llamacpp_pipeline.report.changes import changes, roles
from llamacpp_pipeline.report.measured import missing_text, prediction_text
from llamacpp_pipeline.report.plots.sensitive import sensitivity_profile
from llamacpp_pipeline.report.sensitivities import sensitive_table, source_text
from llamacpp_pipeline.report.sensitivity_text import ruler, sensitivity_text
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.document import RESULTS_NAME, ResultsDocument, document_json
from tests.unit.report.allocated import allocated
from tests.unit.report.sensed import measured_document, sensed
from tests.unit.results.measured import ALPHA, divergence
from tests.unit.results.sample import NOBODY, sample_run


def document() -> ResultsDocument:
    return results_document(sample_run(), redactor=NOBODY)


def test_the_most_and_the_least_sensitive_tensors_are_named() -> None:
    found = allocated(document())
    assert found.variants[0].allocation is not None
    alphas = {one.name: one.alpha or 0.0 for one in found.variants[0].allocation.tensors}
    ordered = sorted(alphas, key=lambda name: (-alphas[name], name))

    _, _, most, least = sensitive_table(found).splitlines()

    shown = [f"`{name}` ({alphas[name]:.5f})" for name in ordered]
    assert most == f"| Most sensitive | {', '.join(shown[:5])} |"
    assert least == f"| Least | {', '.join(shown[-5:])} |"


def test_where_the_sensitivities_come_from_is_said() -> None:
    assert source_text(allocated(document())) == "estimated from weights and imatrix"
    assert "with it (estimated from weights and imatrix)." in render_card(allocated(document()))


def test_without_a_file_by_size_there_is_no_section() -> None:
    assert sensitive_table(document()) == ""
    assert sensitivity_profile(document()) is None
    assert "## Sensitivity" not in render_card(document())


def test_measured_sensitivities_are_shown_with_their_errors_and_not_the_assumed_ones() -> None:
    text = sensitive_table(measured_document())

    rows = [line.strip("| ").split(" | ") for line in text.splitlines()[2:]]
    assert rows[0] == ["`token_embd.weight`", "0.5 ± 0.05", "0.5", "25.00"]
    assert [row[1] for row in rows] == ["0.5 ± 0.05", "0.25 ± 0.03", "0.1 ± 0.01", "0.02 ± 0.002"]


def test_the_map_shows_the_measured_ones_even_where_a_file_was_made_with_others() -> None:
    found = allocated(measured_document())
    table = sensitivity_profile(found)
    assert table is not None
    assert set(table.texts("source")) == {"measured"}
    assert table.numbers("alpha") == list(ALPHA.values())
    assumed = sensitivity_profile(found.model_copy(update={"sensitivity": None}))
    assert assumed is not None
    assert set(assumed.texts("source")) == {"assumed"}


def test_the_card_says_the_price_what_changed_and_what_was_predicted() -> None:
    card = render_card(measured_document())

    section = card[card.index("## Sensitivity") :]
    assert "Measured: 4 tensors at iq3_s, q5_K, 16 chunks of 256 tokens of a text" in section
    assert (
        "Its price: 1.1 minutes on Some CPU, 2 cores, 2 threads: 1.0 minutes of measuring"
        " divergences (40 960 tokens through the model), 0.1 minutes of measuring the errors of"
        " all types. The KLD of the 2 files took 0.1 minutes there." in section
    )
    assert "matched against Q4_K_M, which it matches:" in section
    assert "More bits: blk.0.ffn_down q4_K to q6_K." in section
    assert "Fewer bits: blk.3.ffn_down q6_K to q4_K, blk.0.attn_q q4_K to q3_K." in section
    assert "### Predicted and measured" in section
    assert "median \\|ln\\| 0.223, root mean square 0.223, n = 8" in section


def test_the_words_on_predictions_say_the_factor_the_order_and_the_farthest_file() -> None:
    found = sensed(measured_document())
    facts = found.sensitivity
    assert facts is not None
    first, second = facts.predictions
    assert second.predicted is not None
    turned = second.model_copy(update={"predicted": 2 * second.predicted, "ratio": 1.6})
    other = facts.model_copy(update={"predictions": (first, turned)})

    said = prediction_text(found)
    assert "is 0.80 to 0.80 times the mean KLD measured, in the median 0.80" in said
    assert "It puts 1 of 1 pairs of files in the order" in said
    said = prediction_text(found.model_copy(update={"sensitivity": other}))
    assert "It puts 0 of 1 pairs of files in the order" in said
    assert prediction_text(document()) == ""


def test_roles_are_compared_by_bits_bytes_and_what_they_cost() -> None:
    (change,) = changes(measured_document())

    assert change.asked
    by_role = {role.role: role for role in roles(change)}
    down = by_role["ffn_down"]
    assert (down.n_tensors, down.more) == (2, 0)
    assert down.bpw_before == down.bpw_after
    before = divergence("blk.0.ffn_down.weight", "q4_K") + divergence(
        "blk.3.ffn_down.weight", "q6_K"
    )
    assert down.divergence_before == pytest.approx(before)
    query = by_role["attn_q"]
    assert (query.bpw_before, query.bpw_after, query.more) == (4.5, 3.4375, 110 - 144)
    assert change.moved == 210 - 144
    assert change.more == 110 - 144
    assert change.kld_ratio == pytest.approx(0.8)


def test_a_file_of_no_mixs_size_is_compared_with_the_nearest_only_where_that_is_near() -> None:
    found = measured_document()
    standard, chosen = found.variants
    assert chosen.allocation is not None
    free = chosen.allocation.model_copy(update={"way": "bpw", "matched": None})
    chosen = chosen.model_copy(update={"allocation": free})

    (near,) = changes(found.model_copy(update={"variants": (standard, chosen)}))
    assert (near.against.label, near.asked) == ("Q4_K_M", False)
    large = standard.size.model_copy(update={"tensor_bytes": 6000})
    far = standard.model_copy(update={"size": large})
    assert changes(found.model_copy(update={"variants": (far, chosen)})) == ()


def test_without_a_measured_sensitivity_nothing_was_changed_by_it() -> None:
    assert changes(allocated(document())) == ()
    assert "### What it changed" not in render_card(allocated(document()))


def test_measurements_that_there_was_no_time_for_are_told() -> None:
    found = measured_document()
    assert found.sensitivity is not None
    facts = found.sensitivity.model_copy(update={"n_missing": 3, "not_measured": ("a", "b")})
    assert missing_text(facts) == (
        "There was no time for 3 measurements; 2 tensors keep the prior."
    )
    assert missing_text(found.sensitivity) == ""


def test_the_terminal_has_a_map_in_digits_a_list_and_the_price(tmp_path: Path) -> None:
    found = measured_document()
    (tmp_path / RESULTS_NAME).write_text(document_json(found), encoding="utf-8")

    shown = CliRunner().invoke(
        sensitivity, ["--results", str(tmp_path), "--tensors", "1"], catch_exceptions=False
    )

    assert shown.exit_code == 0
    assert shown.output == sensitivity_text(found, n=1)
    parts = shown.output.split("\n\n")
    assert parts[1].startswith("price: 1.1 minutes")
    legend, *rows = parts[2].splitlines()
    assert legend.startswith("alpha by role and layer: 0 from 0.02, 9 up to 0.5, each digit")
    assert rows == [
        "layer       0",
        "token_embd  9 (no layer)",
        "attn_q      0...",
        "ffn_down    5..7",
    ]
    ranks = [line.split()[0] for line in parts[3].splitlines()]
    assert ranks == ["rank", "1", "...", "4"]


def test_layers_are_counted_in_tens() -> None:
    assert ruler(4) == "0"
    assert ruler(23) == "0         10        20"


def test_without_measurements_the_terminal_says_how_to_get_them(tmp_path: Path) -> None:
    (tmp_path / RESULTS_NAME).write_text(document_json(document()), encoding="utf-8")

    with pytest.raises(UsageError, match="no measured sensitivities") as caught:
        CliRunner().invoke(sensitivity, ["--results", str(tmp_path)], catch_exceptions=False)
    assert "sensitivity: {corpus" in (caught.value.hint or "")
