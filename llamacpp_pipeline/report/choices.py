"""Which files were kept, and which lose to another: the sentences of the card and the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from llamacpp_pipeline.report.figures import RHO_PPL, number
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.rivals import Beaten, KldDifference, Matched
from llamacpp_pipeline.results.select import CandidateFigures, ChosenOn, Selection

SHOWN = 12  # digits of a digest
BY: Mapping[str, str] = {
    "only": "the only one small enough",
    "kld": "by its mean KLD",
    "rho_ppl": f"by its {RHO_PPL}, their mean KLDs tie",
    "tasks": f"by its task average, their mean KLDs and {RHO_PPL} tie",
    "tie": f"a tie in mean KLD and {RHO_PPL}: it has the lowest mean KLD",
}


def choice_lines(document: ResultsDocument) -> tuple[str, ...]:
    """One sentence for each; none where there is nothing to say."""
    told = {frozenset((found.label, found.against)) for found in document.matched}
    return (
        *map(kept_line, document.selections),
        *chosen_on_lines(document),
        *map(matched_line, document.matched),
        *(beaten_line(b) for b in document.beaten if frozenset((b.label, b.by)) not in told),
    )


def chosen_on_lines(document: ResultsDocument) -> tuple[str, ...]:
    """`Chosen on wiki.train.raw (n_ctx 512, 100 chunks), not on the evaluation text`, once each."""
    texts = (selection.chosen_on for selection in document.selections)
    return tuple(dict.fromkeys(chosen_on_line(text) for text in texts if text is not None))


def chosen_on_line(text: ChosenOn) -> str:
    """On what the choices were made."""
    if not text.own_text:
        return "Chosen on the evaluation text"
    sha256 = f"sha256 {text.corpus.sha256[:SHOWN]}"
    cut = f"n_ctx {text.n_ctx}, {text.n_chunks} chunks, {sha256}"
    return f"Chosen on {text.corpus.label} ({cut}), not on the evaluation text"


def matched_line(found: Matched) -> str:
    """`Q4_K_M-matched against Q4_K_M: mean KLD lower by 0.001200 ± 0.000100 (same chunks)`."""
    difference, pair = found.difference, f"{found.label} against {found.against}"
    if abs(difference.value) <= difference.bound:
        return f"{pair}: mean KLD ties ({difference_text(difference)})"
    which = "lower" if difference.value < 0 else "higher"
    return f"{pair}: mean KLD {which} by {difference_text(difference)}"


def kept_line(selection: Selection) -> str:
    """`Q4: kept base of 2 candidates, by its mean KLD; kquants has more mean KLD, by ...`."""
    others = [one for one in selection.candidates if one.name != selection.kept]
    against = ", ".join(f"{one.name} {standing(one)}" for one in others)
    kept = f"kept {selection.kept} of {len(selection.candidates)} candidates"
    return f"{selection.label}: {kept}, {reason_text(selection)}; {against}"


def reason_text(selection: Selection) -> str:
    """What told the kept one from the others, or in what they tie."""
    scored = all(one.task_average is not None for one in selection.candidates)
    if selection.reason == "tie" and scored:
        return f"a tie in mean KLD, {RHO_PPL} and tasks: it has the lowest mean KLD"
    return BY[selection.reason]


def standing(one: CandidateFigures) -> str:
    """How a candidate stands to the kept one."""
    if one.too_large:
        return "was too large"
    if one.difference is None:
        return ""
    if abs(one.difference.value) <= one.difference.bound:
        return f"ties in mean KLD ({difference_text(one.difference)})"
    more = "more" if one.difference.value > 0 else "less"
    return f"has {more} mean KLD, by {difference_text(one.difference)}"


def beaten_line(found: Beaten) -> str:
    """`Q3_K_L loses to IQ4_XS, which is no larger: mean KLD higher by 0.001200 ± 0.000100`."""
    more = difference_text(found.difference)
    return f"{found.label} loses to {found.by}, which is no larger: mean KLD higher by {more}"


def difference_text(difference: KldDifference) -> str:
    """The size of a difference with its error, and over what it was measured."""
    amount = number(abs(difference.value), digits=6)
    how = "same chunks" if difference.paired else "errors of both added"
    return f"{amount} ± {number(difference.stderr, digits=6)} ({how})"
