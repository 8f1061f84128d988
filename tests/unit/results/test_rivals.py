"""Files that lose to one that is no larger are named."""

from __future__ import annotations

from llamacpp_pipeline.report.choices import choice_lines, matched_line
from llamacpp_pipeline.report.terminal import render_text
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.rivals import Matched, beaten_rows, matched_rows
from llamacpp_pipeline.results.table import VariantRow, variant_rows
from llamacpp_pipeline.stages.kld import KldResult
from llamacpp_pipeline.units import Estimate
from tests.unit.results.sample import CREATED, NOBODY, changed, sample_run


def row(label: str, *, file_bytes: int, kld: float, stderr: float = 0.0001) -> VariantRow:
    plain = variant_rows(sample_run())[1]
    assert plain.quality is not None
    quality = plain.quality.model_copy(update={"mean_kld": Estimate(value=kld, stderr=stderr)})
    size = plain.size.model_copy(update={"file_bytes": file_bytes})
    return plain.model_copy(update={"label": label, "size": size, "quality": quality})


def test_a_file_that_loses_to_a_smaller_one_is_named_with_the_difference() -> None:
    (found,) = beaten_rows(
        [row("big", file_bytes=1100, kld=0.03), row("small", file_bytes=1000, kld=0.02)]
    )
    assert (found.label, found.by) == ("big", "small")
    assert round(found.difference.value, 6) == 0.01
    assert not found.difference.paired


def test_the_rival_that_beats_it_by_most_is_named() -> None:
    (found, _) = beaten_rows(
        [
            row("big", file_bytes=1100, kld=0.03),
            row("good", file_bytes=1000, kld=0.02),
            row("best", file_bytes=1000, kld=0.01),
        ]
    )
    assert found.by == "best"


def test_a_larger_file_may_be_better_and_an_equally_large_one_may_not() -> None:
    assert (
        beaten_rows(
            [row("small", file_bytes=1000, kld=0.03), row("big", file_bytes=1010, kld=0.02)]
        )
        == ()
    )
    assert (
        beaten_rows(
            [row("ours", file_bytes=1000, kld=0.03), row("preset", file_bytes=1004, kld=0.02)]
        )[0].by
        == "preset"
    )


def test_a_tie_within_the_error_is_no_defeat() -> None:
    assert (
        beaten_rows(
            [
                row("one", file_bytes=1000, kld=0.0201, stderr=0.0001),
                row("two", file_bytes=1000, kld=0.0200, stderr=0.0001),
            ]
        )
        == ()
    )


def test_what_was_not_measured_neither_loses_nor_beats() -> None:
    unmeasured = row("new", file_bytes=1000, kld=0.5).model_copy(update={"quality": None})
    assert beaten_rows([unmeasured, row("old", file_bytes=2000, kld=0.6)]) == ()


def test_a_defeat_is_told_in_the_results_and_on_the_terminal() -> None:
    run = sample_run()
    plain = run.result("kld/Q4_K_M", KldResult)
    assert plain is not None
    worse = plain.model_copy(update={"mean_kld": Estimate(value=0.05, stderr=0.0001)})
    run = changed(run, "kld/Q4_K_M-selective", result=worse.model_dump(mode="json"))

    document = results_document(run, created=CREATED, redactor=NOBODY)
    (line,) = choice_lines(document)
    assert line == (
        "Q4_K_M-selective loses to Q4_K_M, which is no larger:"
        " mean KLD higher by 0.013728 ± 0.000184 (errors of both added)"
    )
    assert line in render_text(document)


def test_a_variant_is_told_beside_what_it_was_matched_to() -> None:
    rows = [
        row("Q4_K_M", file_bytes=1000, kld=0.03),
        row("ours", file_bytes=999, kld=0.02),
        row("tied", file_bytes=999, kld=0.0301),
    ]
    better, tie = matched_rows(rows, {"ours": "Q4_K_M", "tied": "Q4_K_M", "gone": "Q4_K_M"})

    assert (better.label, better.against) == ("ours", "Q4_K_M")
    assert matched_line(better) == (
        "ours against Q4_K_M: mean KLD lower by 0.010000 ± 0.000141 (errors of both added)"
    )
    assert matched_line(tie) == (
        "tied against Q4_K_M: mean KLD ties (0.000100 ± 0.000141 (errors of both added))"
    )


def test_other_publishers_files_may_beat_ours_and_are_not_accused_themselves() -> None:
    theirs = row("theirs", file_bytes=900, kld=0.01).model_copy(update={"kind": "other"})
    worse = row("worse", file_bytes=2000, kld=0.09).model_copy(update={"kind": "other"})

    (found,) = beaten_rows([row("ours", file_bytes=1000, kld=0.02), theirs, worse])
    assert (found.label, found.by) == ("ours", "theirs")


def test_what_was_told_of_a_matched_pair_is_not_told_again() -> None:
    run = sample_run()
    document = results_document(run, created=CREATED, redactor=NOBODY)
    (lost,) = document.beaten
    told = Matched(label=lost.by, against=lost.label, difference=lost.difference)

    assert len(choice_lines(document)) == 1
    (line,) = choice_lines(document.model_copy(update={"matched": (told,)}))
    assert line.startswith(f"{lost.by} against {lost.label}: ")
