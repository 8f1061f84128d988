"""`results` and `card`: what a finished run left, shown again."""

from __future__ import annotations

from pathlib import Path

import click

from llamacpp_pipeline.errors import UsageError
from llamacpp_pipeline.report.card import render_card
from llamacpp_pipeline.report.eval_results import write_evaluations
from llamacpp_pipeline.report.plots.gallery import draw_all, shown
from llamacpp_pipeline.report.terminal import render_text
from llamacpp_pipeline.results.describe import fields_markdown, schema_json
from llamacpp_pipeline.results.document import RESULTS_NAME, document_json, read_results
from llamacpp_pipeline.results.write import write_card

OUTPUT = Path("output")
FOLDER = click.argument(
    "folder", required=False, type=click.Path(path_type=Path, file_okay=False), default=None
)


@click.command()
@FOLDER
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
@click.option(
    "--schema",
    type=click.Choice(["json", "markdown"]),
    default=None,
    help="Print the form of results.json instead: its JSON schema, or a table of its fields.",
)
def results(folder: Path | None, form: str, schema: str | None) -> None:
    """Show the results in FOLDER (default: the newest under output/)."""
    if schema is not None:
        click.echo(schema_json() if schema == "json" else fields_markdown(), nl=False)
        return
    document = read_results(folder or newest_results(OUTPUT))
    click.echo(document_json(document) if form == "json" else render_text(document), nl=False)


@click.command()
@FOLDER
@click.option("--stdout", is_flag=True, help="Print the card and leave README.md as it is.")
def card(folder: Path | None, *, stdout: bool) -> None:
    """Write README.md in FOLDER again from its results.json (default: newest under output/)."""
    chosen = folder or newest_results(OUTPUT)
    document = read_results(chosen)
    if not stdout:
        draw_all(document, chosen, anew=False)
        write_evaluations(document, chosen)
    text = render_card(document, pictures=shown(document, chosen))
    if stdout:
        click.echo(text, nl=False)
        return
    click.echo(write_card(chosen, text))


def newest_results(output: Path) -> Path:
    """The folder under `output` whose results.json is the newest.

    Raises:
        UsageError: where there is none.

    """
    found = sorted(output.glob(f"*/{RESULTS_NAME}"), key=lambda path: path.stat().st_mtime_ns)
    if not found:
        raise UsageError(
            f"{output}/: no folder with {RESULTS_NAME} in it",
            hint="run `make pipeline` first, or name the folder",
        )
    return found[-1].parent
