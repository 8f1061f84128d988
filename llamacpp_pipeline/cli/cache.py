"""`cache`: what the store holds, whether it is whole, and making room."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click

from llamacpp_pipeline.engine.shared import SharedFolder, prune_shared, shared_folders
from llamacpp_pipeline.engine.store import Store, open_store
from llamacpp_pipeline.engine.upkeep import (
    Listed,
    Pruned,
    clear,
    leftovers,
    listing,
    prune,
    verify,
)
from llamacpp_pipeline.errors import UsageError
from llamacpp_pipeline.units import duration_text, parse_size, size_text

SHORT = 12
AGE = re.compile(r"\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[smhdw])\s*")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

F = TypeVar("F", bound=Callable[..., Any])


def store_option(command: F) -> F:
    """`--store DIR`."""
    option = click.option(
        "--store",
        "folder",
        type=click.Path(file_okay=False, path_type=Path),
        help="The store; default: LLAMACPP_PIPELINE_STORE, or the one in the cache folder.",
    )
    return option(command)


def format_option(command: F) -> F:
    """`--format text|json`."""
    option = click.option(
        "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True
    )
    return option(command)


@click.group()
def cache() -> None:
    """Look after the store of finished steps."""


@cache.command("path")
@store_option
def path_command(folder: Path | None) -> None:
    """Print where the store is."""
    click.echo(_opened(folder).root)


@cache.command("ls")
@store_option
@format_option
def ls_command(folder: Path | None, form: str) -> None:
    """List the finished steps, the least recently used first."""
    store = _opened(folder)
    entries = sorted(listing(store), key=lambda entry: entry.used)
    _print_entries(entries, form=form)
    _say(f"{len(entries)} entries, {size_text(_total(entries))}")
    shared = shared_folders(store)
    if shared:
        _say(_shared_text(shared))


@cache.command("verify")
@store_option
@format_option
@click.pass_context
def verify_command(ctx: click.Context, folder: Path | None, form: str) -> None:
    """Read every byte of the store; entries that changed are moved aside and made again."""
    entries = list(verify(_opened(folder)))
    corrupt = [entry for entry in entries if entry.problem is not None]
    _print_entries(corrupt, form=form)
    _say(f"{len(entries)} entries read, {len(corrupt)} corrupt")
    ctx.exit(1 if corrupt else 0)


@cache.command("prune")
@store_option
@format_option
@click.option("--older-than", metavar="AGE", help="Last used longer ago: 12h, 30d, 8w.")
@click.option("--max-size", metavar="SIZE", help="Keep at most so much: 50GB, 1.5TiB.")
@click.option("--failed", is_flag=True, help="Logs of failed steps and corrupt entries too.")
@click.option("--shared", is_flag=True, help="What the size targets of a model have measured.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def prune_command(  # noqa: PLR0913 - one for each option
    folder: Path | None,
    form: str,
    older_than: str | None,
    max_size: str | None,
    *,
    failed: bool,
    shared: bool,
    dry_run: bool,
) -> None:
    """Remove finished steps, the least recently used first; never what a living run uses."""
    if older_than is None and max_size is None and not failed and not shared:
        raise UsageError(
            "cache prune: nothing says what may go",
            hint="give --older-than 30d, --max-size 50GB, --failed or --shared",
        )
    store = _opened(folder)
    before = None if older_than is None else time.time() - _age(older_than)
    limit = None if max_size is None else _size(max_size)
    pruned = prune(store, older_than=before, max_bytes=limit, dry_run=dry_run)
    _print_entries(pruned.removed, form=form)
    _report(pruned, dry_run=dry_run)
    gone = prune_shared(store, older_than=before, everything=shared, dry_run=dry_run)
    if gone or shared:
        _say(f"{_verb(dry_run)} {_shared_text(gone)}")
    if failed:
        _clear_leftovers(store, dry_run=dry_run)


def _opened(folder: Path | None) -> Store:
    return open_store(folder, warn=_say)


def _report(pruned: Pruned, *, dry_run: bool) -> None:
    _say(f"{_verb(dry_run)} {len(pruned.removed)} entries, {size_text(pruned.size_bytes)}")
    if pruned.in_use:
        _say(f"left {len(pruned.in_use)} entries that a running pipeline uses")


def _verb(dry_run: bool) -> str:  # noqa: FBT001
    return "would remove" if dry_run else "removed"


def _shared_text(folders: list[SharedFolder]) -> str:
    size = size_text(sum(folder.size_bytes for folder in folders))
    return f"{len(folders)} folders of measurements that steps share, {size}"


def _clear_leftovers(store: Store, *, dry_run: bool) -> None:
    found = leftovers(store)
    if not dry_run:
        clear(found)
    _say(f"{_verb(dry_run)} {len(found)} failed or corrupt folders")


def _print_entries(entries: Iterable[Listed], *, form: str) -> None:
    if form == "json":
        click.echo(json.dumps([asdict(entry) for entry in entries], indent=1))
        return
    for entry in entries:
        click.echo(_row(entry))


def _row(entry: Listed) -> str:
    age = duration_text(max(0.0, time.time() - entry.used))
    row = f"{entry.fingerprint[:SHORT]}  {entry.stage or '?':<12}"
    row += f"  {size_text(entry.size_bytes):>10}  used {age} ago"
    return row if entry.problem is None else f"{row}  corrupt: {entry.problem}"


def _total(entries: Iterable[Listed]) -> int:
    return sum(entry.size_bytes for entry in entries)


def _age(text: str) -> float:
    match = AGE.fullmatch(text)
    if match is None:
        raise UsageError(f"--older-than: {text!r} is not an age such as 12h, 30d or 8w")
    return float(match["number"]) * SECONDS[match["unit"]]


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise UsageError(f"--max-size: {error}") from error


def _say(text: str) -> None:
    click.echo(text, err=True)
