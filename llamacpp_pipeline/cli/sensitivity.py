"""`sensitivity`, `explain` and `curve`: what measured sensitivities say of a finished run."""

from __future__ import annotations

from pathlib import Path

import click

from llamacpp_pipeline.cli.results import OUTPUT, newest_results
from llamacpp_pipeline.report.explain import curve_text, explanation
from llamacpp_pipeline.report.sensitivity_text import sensitivity_text
from llamacpp_pipeline.results.document import read_results

RESULTS = click.option(
    "--results",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Folder of results. Default: the newest under output/.",
)


@click.command()
@RESULTS
@click.option(
    "--tensors",
    "n",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="How many of the most and of the least sensitive tensors to list.",
)
def sensitivity(folder: Path | None, n: int) -> None:
    """Show measured sensitivities: by layer and role, what they changed, and their price."""
    document = read_results(folder or newest_results(OUTPUT))
    click.echo(sensitivity_text(document, n=n), nl=False)


@click.command()
@click.argument("variant")
@click.argument("tensor")
@RESULTS
def explain(variant: str, tensor: str, folder: Path | None) -> None:
    """Say why TENSOR of VARIANT has its type: its curve, and the price of a step up or down."""
    document = read_results(folder or newest_results(OUTPUT))
    click.echo(explanation(document, variant, tensor), nl=False)


@click.command()
@RESULTS
@click.option(
    "--kld",
    type=click.FloatRange(min=0, min_open=True),
    default=None,
    metavar="NATS",
    help="Also say which size reaches this mean KLD.",
)
def curve(folder: Path | None, kld: float | None) -> None:
    """Show predicted KLD against size, with the files that were measured."""
    document = read_results(folder or newest_results(OUTPUT))
    click.echo(curve_text(document, kld=kld), nl=False)
