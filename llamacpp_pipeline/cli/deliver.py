"""The result folder: files out of the store, results.json, manifest.json and the card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llamacpp_pipeline.engine.execute import RunReport
from llamacpp_pipeline.engine.link import place
from llamacpp_pipeline.engine.prepare import Prepared
from llamacpp_pipeline.report.card import render_card
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.files import published_files
from llamacpp_pipeline.results.manifest import run_manifest
from llamacpp_pipeline.results.run import RunRecords, ToolchainFacts
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
    run = RunRecords(
        name=prepared.loaded.config.model.label,
        plan=prepared.plan,
        records=report.records,
        config=prepared.loaded.config,
        toolchain=toolchain_facts(toolchain),
    )
    document = results_document(run)
    manifest = run_manifest(run)
    files = tuple(
        linked(prepared, report, step=file.step, output=file.output, target=out / file.name)
        for file in published_files(run)
    )
    write_results(out, document=document, manifest=manifest, card=render_card(document))
    return Delivered(folder=out, document=document, files=files)


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
