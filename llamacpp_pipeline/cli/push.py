"""`push`: a result folder onto the Hub; without `--yes` it is only shown what would happen."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from llamacpp_pipeline.cli.results import FOLDER, OUTPUT, newest_results
from llamacpp_pipeline.cli.toolchain import StderrTalk
from llamacpp_pipeline.config.schema import PublishConfig, ToolchainConfig
from llamacpp_pipeline.engine.store import open_store
from llamacpp_pipeline.errors import InterruptedRunError, UsageError
from llamacpp_pipeline.process.runner import LocalRunner
from llamacpp_pipeline.report.publish import Hub
from llamacpp_pipeline.report.push_plan import PushPlan, Target
from llamacpp_pipeline.report.push_view import plan_document, plan_text
from llamacpp_pipeline.report.release import Release, release
from llamacpp_pipeline.report.shards import FOLDER as PARTS
from llamacpp_pipeline.report.shards import TOOL, Splitter
from llamacpp_pipeline.results.redact import redactor_of_this_machine
from llamacpp_pipeline.toolchain.binaries import built, describe
from llamacpp_pipeline.units import parse_size

LIMIT = "50GB"  # the largest file that the Hub takes


@click.command()
@FOLDER
@click.option("--repo", help="owner/name. Default: `publish.repo` of the config.")
@click.option("--branch", default="main", show_default=True, help="Made where it is not there.")
@click.option("--private/--public", default=None, help="Of a repository that is made for it.")
@click.option("--gated", type=click.Choice(["auto", "manual"]), help="Its files must be asked for.")
@click.option("--delete", is_flag=True, help="Also delete what is there and not in FOLDER.")
@click.option("--limit", default=LIMIT, show_default=True, help="Split larger GGUFs.")
@click.option("--yes", is_flag=True, help="Do it; without this it is only shown.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
def push(folder: Path | None, *, limit: str, yes: bool, form: str, **asked: Any) -> None:  # noqa: ANN401
    """Show what publishing FOLDER (default: the newest under output/) would change; --yes does it.

    Files are compared by digest, so that what is there already does not travel again. All changes
    are one commit, which is tagged with the BuildId.
    """
    hub = Hub(redactor_of_this_machine())
    chosen = folder or newest_results(OUTPUT)
    digest = open_store(None).digests.of
    found = release(chosen, digest=digest, redactor=hub.redactor)
    target = target_of(found, asked)
    with LocalRunner() as runner:
        splitter = Splitter(
            binary=lambda: gguf_split(runner),
            runner=runner,
            limit_bytes=limit_bytes(limit),
            digest=digest,
        )
        if yes:
            found = splitter.split(found)
        shown(plan := hub.plan(found, target), found, splitter, form=form)
    if not yes:
        click.echo("nothing was changed: `--yes` does it", err=True)
        return
    with ending_at_once(target):
        pushed = hub.push(plan, found)
    shutil.rmtree(chosen / PARTS, ignore_errors=True)
    click.echo(f"{pushed.url} is at {pushed.commit[:12]}, tagged {pushed.tag}", err=True)


@contextmanager
def ending_at_once(target: Target) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the process: uploads in threads would otherwise be waited for.

    Nothing is lost by that. Here nothing is written, and there one commit comes at the end.
    """

    def end(number: int, frame: object) -> None:
        del number, frame
        text = f"interrupted: {target.repo} shows nothing half-done; what has arrived is kept\n"
        os.write(sys.stderr.fileno(), text.encode())
        os._exit(InterruptedRunError.exit_code)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def shown(plan: PushPlan, found: Release, splitter: Splitter, *, form: str) -> None:
    """The plan on stdout."""
    to_split = [file.name for file in splitter.too_large(found)]
    if form == "json":
        click.echo(json.dumps(plan_document(plan, found, to_split), indent=2))
    else:
        click.echo(plan_text(plan, found, to_split), nl=False)


def target_of(found: Release, asked: Mapping[str, Any]) -> Target:
    """Where it goes: what the command line says, else what the config said.

    Raises:
        UsageError: where neither names a repository, or it has no owner.

    """
    config = PublishConfig.model_validate(found.manifest.config.get("publish") or {})
    repo = asked["repo"] or config.repo
    if repo is None:
        raise UsageError(
            "no repository is named",
            hint="say `--repo owner/name`, or `publish.repo` in the YAML",
        )
    owner, _, name = repo.partition("/")
    if not owner or not name or "/" in name:
        raise UsageError(f"{repo} is no repository of the Hub", hint="write owner/name")
    private = config.private if asked["private"] is None else asked["private"]
    return Target(
        repo=repo,
        branch=asked["branch"],
        private=private,
        gated=asked["gated"] or config.gated,
        delete=asked["delete"],
    )


def limit_bytes(text: str) -> int:
    """The limit in bytes.

    Raises:
        UsageError: where it is no size.

    """
    try:
        size = parse_size(text)
    except ValueError as error:
        raise UsageError(f"--limit {text}: {error}", hint="write it like 50GB") from error
    if size <= 0:
        raise UsageError(f"--limit {text}: no file is so small", hint="write it like 50GB")
    return size


def gguf_split(runner: LocalRunner) -> Path:
    """The tool, built first where it is not there."""
    talk = StderrTalk()
    tools = describe(ToolchainConfig(), runner=runner, talk=talk)
    built(tools, runner=runner, talk=talk)
    return tools.bin_dir / TOOL
