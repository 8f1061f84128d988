"""`reproduce`: the files of a manifest made again, and compared by their digests."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click

from llamacpp_pipeline.cli.rebuild import IMATRIX, Made, Rebuild
from llamacpp_pipeline.engine.digests import sha256_of
from llamacpp_pipeline.engine.link import place
from llamacpp_pipeline.process.runner import LocalRunner
from llamacpp_pipeline.report.reproduced import verdict_document, verdict_text
from llamacpp_pipeline.results.manifest import manifest_from_file
from llamacpp_pipeline.results.reproduction import FileVerdict
from llamacpp_pipeline.results.run import output_file
from llamacpp_pipeline.toolchain.places import cache_folder


@click.command()
@click.argument("manifest", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="A.B=C",
    help="Where local files lie now: model.path=FOLDER, calibration.corpus.path=FILE.",
)
@click.option(
    "--store",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the steps are made. Default: a folder of this manifest's own, empty at first.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Put the rebuilt files here.",
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
def reproduce(
    manifest: Path, overrides: tuple[str, ...], store: Path | None, out: Path | None, form: str
) -> int:
    """Make the files of MANIFEST (manifest.json) again and compare their digests with it.

    Exits with 0 where every file is the same, byte by byte; an imatrix may differ by the error of
    summing floats on another machine, and the files made from it are then checked with the
    published one, which must lie beside the manifest.
    """
    wanted = manifest_from_file(manifest)
    root = store or cache_folder() / "reproduce" / sha256_of(manifest)
    with LocalRunner() as runner:
        job = Rebuild(
            manifest=wanted, beside=manifest.parent, overrides=overrides, root=root, runner=runner
        )
        first = job.run(job.config(), labelled_as_told=False)
        found = first.verdicts(wanted)
        again = job.with_published_imatrix(first, found)
        if again is not None:
            found = merged(found, again.verdicts(wanted))
            if out is not None:
                placed_in(out, again, found)
        if out is not None:
            placed_in(out, first, found)
    if form == "json":
        click.echo(json.dumps(verdict_document(found), indent=2))
    else:
        click.echo(verdict_text(found), nl=False)
    return 0 if all(file.is_good for file in found) else max(1, first.report.exit_code)


def merged(
    first: tuple[FileVerdict, ...], again: tuple[FileVerdict, ...]
) -> tuple[FileVerdict, ...]:
    """The imatrix as recomputed, within its error; of the others what the published one makes."""
    return tuple(
        replace(one, verdict="within error") if one.step == IMATRIX else other
        for one, other in zip(first, again, strict=True)
    )


def placed_in(out: Path, made: Made, found: tuple[FileVerdict, ...]) -> None:
    """The files of a run that are not in the folder yet."""
    for file in found:
        entry = made.report.entries.get(file.step)
        target = out / file.name
        if entry is None or target.exists():
            continue
        place(
            entry.path(file.output),
            target,
            sha256=output_file(entry.record, file.output).sha256,
            digests=made.prepared.store.digests,
        )
