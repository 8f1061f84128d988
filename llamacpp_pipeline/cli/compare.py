"""`compare`: results of several runs, builds or machines side by side."""

from __future__ import annotations

from pathlib import Path

import click

from llamacpp_pipeline.errors import MixedConditionsError
from llamacpp_pipeline.report.comparison import differing_text, render_comparison
from llamacpp_pipeline.results.compare import RunsComparison, compare_runs
from llamacpp_pipeline.results.document import (
    RESULTS_NAME,
    ResultsDocument,
    document_json,
    read_results,
)


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--despite",
    multiple=True,
    metavar="CONDITION",
    help="Join although this condition differs, such as build_id; the output says so.",
)
@click.option("--strict", is_flag=True, help="Fail (exit code 1) where anything was not joined.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
def compare(
    results: tuple[Path, ...], despite: tuple[str, ...], form: str, *, strict: bool
) -> None:
    """Put the figures of two or more result folders (or results.json files) side by side.

    Only figures that were measured alike stand in one table; what differs is named.
    """
    sources = [(str(path), read(path)) for path in results]
    comparison = compare_runs(sources, despite=despite)
    text = document_json(comparison) if form == "json" else render_comparison(comparison)
    click.echo(text, nl=False)
    if strict and comparison.refused:
        raise refusal(comparison)


def read(path: Path) -> ResultsDocument:
    """The results in a folder, or of a file named results.json in one."""
    return read_results(path.parent if path.name == RESULTS_NAME else path)


def refusal(comparison: RunsComparison) -> MixedConditionsError:
    """What was not joined, and why."""
    return MixedConditionsError(
        "compare: not everything was measured alike",
        evidence=[
            f"{group.kind} of {', '.join(group.runs)} and {group.apart_from}: "
            f"{differing_text(found)}"
            for group in comparison.refused
            for found in group.differing
        ],
        hint="measure again under equal conditions, or name with --despite what may differ",
    )
