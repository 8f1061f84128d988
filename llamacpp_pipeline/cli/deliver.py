"""The result folder: files out of the store, results.json, manifest.json and the card."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from llamacpp_pipeline.cli.card_template import own_template
from llamacpp_pipeline.engine.execute import RunReport
from llamacpp_pipeline.engine.link import place
from llamacpp_pipeline.engine.prepare import Prepared
from llamacpp_pipeline.errors import PipelineError
from llamacpp_pipeline.report.card import render_card
from llamacpp_pipeline.report.eval_results import write_evaluations
from llamacpp_pipeline.report.plots.gallery import draw_all, shown
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.document import ResultsDocument, read_results
from llamacpp_pipeline.results.files import published_files
from llamacpp_pipeline.results.manifest import run_manifest
from llamacpp_pipeline.results.run import RunRecords, ToolchainFacts
from llamacpp_pipeline.results.select import with_kept
from llamacpp_pipeline.results.write import write_results
from llamacpp_pipeline.toolchain.binaries import Toolchain
from llamacpp_pipeline.toolchain.series import read_series


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """What lies in the result folder now."""

    folder: Path
    document: ResultsDocument
    files: tuple[Path, ...]


def deliver(prepared: Prepared, report: RunReport, *, toolchain: Toolchain, out: Path) -> Delivered:
    """Put what a run made into its result folder, the card last.

    Raises:
        PipelineError: where figures do not belong together, or the folder cannot be written to.

    """
    run = with_kept(
        RunRecords(
            name=prepared.loaded.config.model.label,
            plan=prepared.plan,
            records=report.records,
            config=prepared.loaded.config,
            toolchain=toolchain_facts(toolchain),
        )
    )
    template = own_template(prepared.loaded)
    document = results_document(run, template=template)
    since = unchanged_since(out, document)
    if since is not None:
        document = results_document(run, created=since, template=template)
    manifest = run_manifest(run, created=since)
    files = tuple(
        linked(prepared, report, step=file.step, output=file.output, target=out / file.name)
        for file in published_files(run)
    )
    draw_all(document, out, anew=since is None)
    write_evaluations(document, out)
    card, refusal = carded(document, out)
    write_results(out, document=document, manifest=manifest, card=card)
    if refusal is not None:
        raise refusal
    return Delivered(folder=out, document=document, files=files)


def carded(document: ResultsDocument, out: Path | None) -> tuple[str, PipelineError | None]:
    """The card; by our own template, with the error, where the publisher's cannot be filled."""
    try:
        return render_card(document, pictures=shown(document, out)), None
    except PipelineError as error:
        plain = document.publication.model_copy(update={"template": None})
        document = document.model_copy(update={"publication": plain})
        return render_card(document, pictures=shown(document, out)), error


def unchanged_since(out: Path, document: ResultsDocument) -> datetime | None:
    """When the results in the folder were written, where they say the same; else None."""
    try:
        before = read_results(out)
    except PipelineError:
        return None  # none there, or of another version: they are written anew
    if before.model_copy(update={"created": document.created}) != document:
        return None
    return datetime.fromisoformat(before.created.replace("Z", "+00:00"))


def linked(prepared: Prepared, report: RunReport, *, step: str, output: str, target: Path) -> Path:
    """One file out of the store."""
    entry = report.entries[step]
    source = entry.path(output)
    recorded = next(file for file in entry.record.outputs if file.output == output)
    place(source, target, sha256=recorded.sha256, digests=prepared.store.digests)
    return target


def toolchain_facts(toolchain: Toolchain) -> ToolchainFacts:
    """What a reader of the results should know of the binaries."""
    return ToolchainFacts(
        build_id=toolchain.build_id,
        commit=toolchain.commit,
        backend=toolchain.backend,
        flags=tuple(f"-D{name}={value}" for name, value in toolchain.definitions.items()),
        patches=read_series(toolchain.places.patches).names,
        converter_id=toolchain.identity("converter"),
        note=toolchain.note,
    )
