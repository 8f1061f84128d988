"""`build`, `patches` and `doctor`: llama.cpp on this machine."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import click

from llamacpp_pipeline.config.load import LoadedConfig, load
from llamacpp_pipeline.config.schema import ToolchainConfig
from llamacpp_pipeline.errors import ToolchainError
from llamacpp_pipeline.process.runner import LocalRunner
from llamacpp_pipeline.toolchain import workbench
from llamacpp_pipeline.toolchain.binaries import Toolchain, built, describe, with_jobs
from llamacpp_pipeline.toolchain.places import Places
from llamacpp_pipeline.toolchain.series import read_series
from llamacpp_pipeline.toolchain.source import Source, fetch, identify
from llamacpp_pipeline.toolchain.survey import Finding, survey

EXIT_TOOLCHAIN = ToolchainError.exit_code
PLAIN_SECONDS = 15.0
MARKS = {"ok": "ok", "later": "later", "optional": "-", "missing": "MISSING"}

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Take `toolchain:` from this YAML file. Default: the pinned llama.cpp, on the CPU.",
)
format_option = click.option(
    "--format", "output_format", type=click.Choice(["text", "json"]), default="text"
)


class StderrTalk:
    """A toolchain Talk: sentences, and one live line for a counter where there is a terminal."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._drawn = False
        self._last = 0.0

    def say(self, text: str) -> None:
        """One sentence, on a line of its own."""
        self._clear()
        click.echo(text, err=True)

    def progress(self, done: int, total: int) -> None:
        """The counter, with its percentage."""
        text = f"  [{done}/{total}] {100 * done // max(total, 1)} %"
        now = time.monotonic()
        if self._live:
            click.echo(f"\r{text}", err=True, nl=False)
            self._drawn = True
            if done == total:
                self._clear()
        elif now - self._last >= PLAIN_SECONDS:
            self._last = now
            click.echo(text, err=True)

    def _clear(self) -> None:
        if self._drawn:
            click.echo("\r\x1b[K", err=True, nl=False)
            self._drawn = False


@click.command()
@config_option
@click.option("--jobs", type=click.IntRange(min=1), help="Compilers at a time; default: the CPUs.")
@format_option
def build(config_file: Path | None, jobs: int | None, output_format: str) -> None:
    """Fetch, patch and build llama.cpp; what is there already is used."""
    choice = _chosen(config_file)
    talk = StderrTalk()
    with LocalRunner() as runner:
        described = describe(choice, runner=runner, talk=talk)
        if described.is_built:
            talk.say("llama.cpp is built already")
        toolchain = built(with_jobs(described, jobs), runner=runner, talk=talk)
    click.echo(_build_text(toolchain) if output_format == "text" else _build_json(toolchain))


@click.group()
def patches() -> None:
    """Work on patches/: the changes to llama.cpp that this pipeline needs."""


@patches.command("apply")
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True, help="New folder.")
def apply_(folder: Path) -> None:
    """Make a git repository of the patched tree, with one commit a patch, to work in."""
    places = Places.from_environment()
    with LocalRunner() as runner:
        source = _source(places, runner)
        workbench.open_bench(read_series(places.patches), source, folder, runner=runner)
    click.echo(folder)
    again = f"llamacpp-pipeline patches refresh --from {folder}"
    click.echo(f"edit and commit there (one commit a patch), then: {again}", err=True)


@patches.command()
@click.option(
    "--from",
    "folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="A folder made by `patches apply`.",
)
def refresh(folder: Path) -> None:
    """Write patches/ anew from the commits of such a repository."""
    with LocalRunner() as runner:
        names = workbench.refresh(Places.from_environment().patches, folder, runner=runner)
    for name in names:
        click.echo(name)


@patches.command()
def check() -> None:
    """Say whether every patch applies, in order."""
    places = Places.from_environment()
    with LocalRunner() as runner:
        source = _source(places, runner)
        names = workbench.check(read_series(places.patches), source, runner=runner)
    for name in names:
        click.echo(f"ok  {name}")


@click.command()
@config_option
@format_option
def doctor(config_file: Path | None, output_format: str) -> None:
    """Say what is missing on this machine, with the command that mends it."""
    choice = _chosen(config_file)
    with LocalRunner() as runner:
        findings = survey(choice, runner=runner, places=Places.from_environment())
    if output_format == "json":
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        click.echo("\n".join(_finding_lines(findings)))
    if any(finding.state == "missing" for finding in findings):
        click.get_current_context().exit(EXIT_TOOLCHAIN)


def placed(loaded: LoadedConfig) -> ToolchainConfig:
    """The config's toolchain, a relative `toolchain.path` starting where it was written."""
    path = loaded.file("toolchain.path")
    chosen = loaded.config.toolchain
    return chosen if path is None else chosen.model_copy(update={"path": str(path)})


def _chosen(config_file: Path | None) -> ToolchainConfig:
    return ToolchainConfig() if config_file is None else placed(load(config_file))


def _source(places: Places, runner: LocalRunner) -> Source:
    choice = ToolchainConfig()
    source = identify(choice, places)
    return fetch(source, choice, places, runner=runner, talk=StderrTalk())


def _build_text(toolchain: Toolchain) -> str:
    lines = [
        f"BuildId   {toolchain.build_id}",
        f"llama.cpp {toolchain.commit}, build {toolchain.build_number}, {toolchain.backend}",
        f"binaries  {toolchain.bin_dir}",
    ]
    if toolchain.note is not None:
        lines.append(f"note      {toolchain.note}")
    return "\n".join(lines)


def _build_json(toolchain: Toolchain) -> str:
    document = {
        "build_id": toolchain.build_id,
        "backend": toolchain.backend,
        "bin_dir": str(toolchain.bin_dir),
        "build_number": toolchain.build_number,
        "commit": toolchain.commit,
        "note": toolchain.note,
        "source_digest": toolchain.source_digest,
    }
    return json.dumps(document, indent=1)


def _finding_lines(findings: tuple[Finding, ...]) -> list[str]:
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{MARKS[finding.state]:<8} {finding.name:<{width}}  {finding.detail}")
        if finding.fix is not None:
            lines.append(f"{'':<8} {'':<{width}}  fix: {finding.fix}")
    return lines
