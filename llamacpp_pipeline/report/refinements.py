"""What was tried for each file by size before it was made, as a table of the card."""

from __future__ import annotations

from llamacpp_pipeline.report.allocation import allocated
from llamacpp_pipeline.report.figures import number
from llamacpp_pipeline.report.markdown import Markdown, escaped, table
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.refinement import Refinement, TriedMix
from llamacpp_pipeline.units import duration_text

EMPTY = Markdown("")
HEAD = ["File", "Sensitivities", "Changed", "Predicted", "Probe text", "Validation text", "to kept"]
STOPPED = {
    "rounds": "all rounds were made",
    "nothing-close": "no decision was close",
    "same-types": "the values measured at the solution led to types already tried",
    "within-error": "the last round's gain was within its error",
    "time": "there was no time for another measurement",
}


def refinement_table(document: ResultsDocument) -> Markdown:
    """Mean KLD of every mix that was tried; empty where none was."""
    rows = [_row(label, mix, found) for label, found in refined(document) for mix in found.mixes]
    return table(HEAD, rows, text_columns=2) if rows else EMPTY


def refinement_lines(document: ResultsDocument) -> tuple[str, ...]:
    """How far it went for each file, and what it took."""
    return tuple(_line(label, found) for label, found in refined(document))


def refined(document: ResultsDocument) -> list[tuple[str, Refinement]]:
    """The files whose types were validated."""
    return [(row.label, found.refinement) for row, found in allocated(document) if found.refinement]


def _row(label: str, mix: TriedMix, found: Refinement) -> list[str]:
    kept = mix.name == found.kept
    name = f"**{escaped(mix.name)}**" if kept else escaped(mix.name)
    apart = "kept" if mix.to_kept is None else f"{mix.to_kept.value:+.6f}"
    error = "" if mix.to_kept is None else f" ± {mix.to_kept.stderr or 0:.6f}"
    return [
        escaped(label),
        name,
        str(mix.n_changed),
        number(mix.predicted, digits=6),
        number(mix.on_probe.value, digits=6),
        number(mix.kld.value, digits=6),
        f"{apart}{error}",
    ]


def _line(label: str, found: Refinement) -> str:
    steps = sum(one.n_steps for one in found.rounds)
    return (
        f"{label}: {len(found.rounds)} round(s), {steps} values measured again at the solution;"
        f" {STOPPED[found.stopped]}; {found.n_chunks} chunks of {found.n_ctx} tokens decided,"
        f" {duration_text(found.seconds)} of measuring"
    )
