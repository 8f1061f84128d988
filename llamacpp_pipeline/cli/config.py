"""`init`: a commented YAML for a model. `schema`: the JSON schema of such files, for editors."""

from __future__ import annotations

import json
from pathlib import Path

import click

from llamacpp_pipeline.config.json_schema import json_schema
from llamacpp_pipeline.config.load import load
from llamacpp_pipeline.config.template import commented
from llamacpp_pipeline.errors import UsageError

STDOUT = Path("-")


@click.command()
@click.argument("model", required=False)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write; - for standard output. Default: <model name>.yaml",
)
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def init(model: str | None, output: Path | None, *, force: bool) -> None:
    """Write a YAML file for MODEL, with every key and what it is for.

    MODEL is a Hub id or a local folder; without it, the file is for the embedded demo model.
    """
    loaded = load(model=model)
    target = output or Path(f"{loaded.config.model.label}.yaml")
    if target == STDOUT:
        click.echo(commented(loaded, folder=Path()), nl=False)
        return
    if target.exists() and not force:
        raise UsageError(
            f"{target} is there already", hint="name another --output, or --force to write over it"
        )
    if not target.parent.is_dir():
        raise UsageError(
            f"{target.parent} is no folder", hint=f"make it first: mkdir -p {target.parent}"
        )
    target.write_text(commented(loaded, folder=target.parent), encoding="utf-8")
    click.echo(f"see what it would do: llamacpp-pipeline plan --config {target}", err=True)
    click.echo(target)


@click.command()
def schema() -> None:
    """Print the JSON schema of the YAML files."""
    click.echo(json.dumps(json_schema(), indent=2))
