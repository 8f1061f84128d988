"""`run` and `plan`: the main job, and what it would do."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from llamacpp_pipeline.cli.card_template import own_template
from llamacpp_pipeline.cli.deliver import Delivered, deliver
from llamacpp_pipeline.cli.plan_view import PlanView
from llamacpp_pipeline.cli.toolchain import StderrTalk
from llamacpp_pipeline.config.load import LoadedConfig, load
from llamacpp_pipeline.engine.choice import Choice
from llamacpp_pipeline.engine.devices import Devices, devices_of
from llamacpp_pipeline.engine.events import Reporters
from llamacpp_pipeline.engine.execute import RunReport, execute
from llamacpp_pipeline.engine.journal import journal_in
from llamacpp_pipeline.engine.make import Workshop
from llamacpp_pipeline.engine.prepare import Prepared, prepare
from llamacpp_pipeline.engine.progress import Progress
from llamacpp_pipeline.engine.store import VARIABLE, open_store
from llamacpp_pipeline.plan.budget import refuse_what_cannot_fit
from llamacpp_pipeline.process.runner import LocalRunner
from llamacpp_pipeline.report.terminal import render_text
from llamacpp_pipeline.results.document import document_json
from llamacpp_pipeline.toolchain.binaries import Toolchain, built, describe

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the command line asks for."""

    model: str | None
    config: Path | None
    out: Path | None
    store: Path | None
    overrides: tuple[str, ...]

    def loaded(self) -> LoadedConfig:
        """The configuration."""
        return load(self.config, model=self.model, overrides=self.overrides)

    def folder(self, loaded: LoadedConfig) -> Path:
        """The result folder."""
        return self.out or Path("output") / loaded.config.model.label


def job_options(command: F) -> F:
    """The options that `run` and `plan` share."""
    for option in reversed(
        (
            click.option("--model", help="A Hub id, or a local folder. Default: the demo model."),
            click.option(
                "--config",
                type=click.Path(path_type=Path, exists=True, dir_okay=False),
                help="A YAML file. Default: configs/<name>.yaml, else configs/defaults.yaml.",
            ),
            click.option(
                "--out",
                type=click.Path(path_type=Path, file_okay=False),
                help="The result folder. Default: output/<model name>/.",
            ),
            click.option(
                "--store",
                type=click.Path(path_type=Path, file_okay=False),
                help="Where finished steps are kept. Default: LLAMACPP_PIPELINE_STORE, else"
                " ~/.cache/llamacpp-pipeline/store.",
            ),
            click.option(
                "--set", "overrides", multiple=True, metavar="A.B=C", help="Override a config key."
            ),
        )
    ):
        command = option(command)
    return command


format_option = click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text"
)


@click.command()
@job_options
@click.option("--explain", is_flag=True, help="Say all of why each step is a miss.")
@format_option
def plan(form: str, *, explain: bool, **asked: Any) -> None:  # noqa: ANN401  click's own
    """Show what `run` would do: what is there already, and what the rest will take."""
    job = Job(**asked)
    loaded = job.loaded()
    devices_in(loaded)  # refused now rather than when it runs
    with LocalRunner() as runner:
        toolchain = described(loaded, runner)
    prepared = prepare(loaded, store=open_store(job.store), tools=toolchain)
    hits = prepared.hits()
    view = PlanView(
        prepared=prepared, hits=hits, budget=prepared.budget(hits), out=job.folder(loaded)
    )
    if form == "json":
        click.echo(json.dumps({**view.document(), "built": toolchain.is_built}, indent=2))
        return
    click.echo(view.text(explain=explain), nl=False)
    if not toolchain.is_built:
        click.echo("llama.cpp is not built yet: `run` builds it first, or `build` does it now")


@click.command()
@job_options
@click.option("--only", multiple=True, metavar="STEP", help="These steps and what they need.")
@click.option("--rerun", multiple=True, metavar="STEP", help="Make these anew: a step or a stage.")
@format_option
def run(form: str, only: tuple[str, ...], rerun: tuple[str, ...], **asked: Any) -> int:  # noqa: ANN401
    """Make every file and measure it; finished steps are taken from the store."""
    job = Job(**asked)
    loaded = job.loaded()
    own_template(loaded)  # refused now rather than after hours
    out = job.folder(loaded)
    stop = threading.Event()
    with LocalRunner(stop=stop) as runner:
        toolchain = described(loaded, runner)
        devices = devices_in(loaded)
        prepared = prepare(loaded, store=open_store(job.store), tools=toolchain)
        predicted = refused_early(prepared)
        built(toolchain, runner=runner, talk=StderrTalk())
        workshop = Workshop(
            store=prepared.store,
            runner=runner,
            tools=toolchain,
            machine=prepared.machine,
            environ={**os.environ, VARIABLE: str(prepared.store.root)},
            devices=devices,
            stop=stop,
        )
        with journal_in(out, store=prepared.store.root) as journal:
            progress = Progress()
            prepared.remember(out)
            report = execute(
                prepared.plan,
                fingerprints=prepared.fingerprints,
                workshop=workshop,
                reporter=Reporters(progress, (journal,)),
                choice=Choice(only=only, rerun=rerun),
                predicted=predicted,
            )
            return ended(prepared, report, toolchain=toolchain, out=out, form=form)


def devices_in(loaded: LoadedConfig) -> Devices:
    """The devices that the configuration names.

    Raises:
        ConfigError: where there are fewer.

    """
    config = loaded.config
    return devices_of(config.placement, backend=config.toolchain.backend, environ=os.environ)


def described(loaded: LoadedConfig, runner: LocalRunner) -> Toolchain:
    """The toolchain that the configuration means, not built yet."""
    choice = loaded.config.toolchain
    folder = loaded.file("toolchain.path")
    if folder is not None:
        choice = choice.model_copy(update={"path": str(folder.absolute())})
    return describe(choice, runner=runner, talk=StderrTalk())


def refused_early(prepared: Prepared) -> dict[str, int]:
    """Bytes that each step to do will write, where known.

    Raises:
        InputError: where they do not fit on the disk.

    """
    taken = prepared.budget(prepared.hits())
    refuse_what_cannot_fit(
        taken,
        plan=prepared.plan,
        sources=prepared.sources,
        free_bytes=prepared.store.free_bytes(),
    )
    return {step.key: step.output_bytes for step in taken.todo if step.output_bytes is not None}


def ended(
    prepared: Prepared, report: RunReport, *, toolchain: Toolchain, out: Path, form: str
) -> int:
    """Deliver what there is; returns the exit code. Failures were shown when they happened."""
    click.echo(report.summary(), err=True)
    if {"convert", "reference"} <= report.records.keys():
        show(deliver(prepared, report, toolchain=toolchain, out=out), form=form)
    elif not report.failures:
        click.echo("no card: the reference was not measured in this run (--only)", err=True)
    return report.exit_code


def show(delivered: Delivered, *, form: str) -> None:
    """The table on stdout, where the files are on stderr."""
    document = delivered.document
    click.echo(document_json(document) if form == "json" else render_text(document), nl=False)
    click.echo(
        f"{len(delivered.files)} files, README.md, results.json: {delivered.folder}/", err=True
    )
