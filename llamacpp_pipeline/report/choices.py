"""Which files were kept, and which lose to another: the sentences of the card and the terminal."""

from __future__ import annotations

from llamacpp_pipeline.report.figures import number
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.rivals import Beaten, KldDifference


def choice_lines(document: ResultsDocument) -> tuple[str, ...]:
    """One sentence for each; none where there is nothing to say."""
    return tuple(beaten_line(found) for found in document.beaten)


def beaten_line(found: Beaten) -> str:
    """`Q3_K_L loses to IQ4_XS, which is no larger: mean KLD higher by 0.001200 ± 0.000100`."""
    more = difference_text(found.difference)
    return f"{found.label} loses to {found.by}, which is no larger: mean KLD higher by {more}"


def difference_text(difference: KldDifference) -> str:
    """The size of a difference with its error, and over what it was measured."""
    amount = number(abs(difference.value), digits=6)
    how = "same chunks" if difference.paired else "errors of both added"
    return f"{amount} ± {number(difference.stderr, digits=6)} ({how})"
