"""A manifest's plan run again, in a store of its own."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from llamacpp_pipeline.cli.deliver import toolchain_facts
from llamacpp_pipeline.cli.run import described
from llamacpp_pipeline.cli.toolchain import StderrTalk
from llamacpp_pipeline.config.load import LoadedConfig, load
from llamacpp_pipeline.config.replay import (
    names_no_file,
    replayed,
    with_imatrix,
    without_evaluation,
)
from llamacpp_pipeline.datasets import imatrix_file
from llamacpp_pipeline.engine.choice import Choice, chosen
from llamacpp_pipeline.engine.digests import sha256_of
from llamacpp_pipeline.engine.execute import RunReport, execute
from llamacpp_pipeline.engine.make import Workshop
from llamacpp_pipeline.engine.prepare import Prepared, prepare, replanned
from llamacpp_pipeline.engine.progress import Progress
from llamacpp_pipeline.engine.store import VARIABLE, open_store
from llamacpp_pipeline.errors import ConfigError, InputError
from llamacpp_pipeline.plan.step import Leaf, Plan
from llamacpp_pipeline.process.runner import LocalRunner
from llamacpp_pipeline.results.manifest import Manifest
from llamacpp_pipeline.results.reproduction import (
    IMATRIX_TOLERANCE,
    FileVerdict,
    Rebuilt,
    imatrix_difference,
    verdicts,
)
from llamacpp_pipeline.results.write import write_text
from llamacpp_pipeline.stages.check_selection import STAGE as CHECK_SELECTION
from llamacpp_pipeline.stages.check_texts import STAGE as CHECK_TEXTS
from llamacpp_pipeline.toolchain.binaries import Toolchain, built

EVALUATION = "evaluation.corpus.path"
IMATRIX = "imatrix"


@dataclass(frozen=True, kw_only=True)
class Made:
    """One run of the plan."""

    prepared: Prepared
    report: RunReport
    tools: Toolchain

    def verdicts(self, manifest: Manifest) -> tuple[FileVerdict, ...]:
        """What became of each file."""
        rebuilt = Rebuilt(records=self.report.records, toolchain=toolchain_facts(self.tools))
        return verdicts(manifest, rebuilt)


@dataclass(frozen=True, kw_only=True)
class Rebuild:
    """The files of one manifest, to be made again."""

    manifest: Manifest
    beside: Path
    overrides: tuple[str, ...]
    root: Path
    runner: LocalRunner

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps that make the files."""
        return tuple(dict.fromkeys(file.step for file in self.manifest.files))

    def config(self) -> dict[str, Any]:
        """The manifest's configuration, pinned, its local files looked for beside the manifest."""
        commits = {
            step.params["repo"]: step.params["commit"]
            for step in self.manifest.steps
            if {"repo", "commit"} <= step.params.keys()
        }
        config = replayed(self.manifest.config, commits=commits)
        absent = names_no_file(config, self.overrides, EVALUATION)
        if absent and not (self.beside / config["evaluation"]["corpus"]["path"]).is_file():
            return without_evaluation(config)
        return config

    def loaded(self, config: Mapping[str, Any]) -> LoadedConfig:
        """The configuration, loaded as one that a person wrote beside the manifest.

        Raises:
            InputError: where this version does not understand it, or a file is not at hand.

        """
        path = self.root / "reproduce.yaml"
        write_text(path, json.dumps(located(config, self.beside), indent=1))
        name = f"model.name={self.manifest.name}"
        try:
            return load(path, overrides=(*self.overrides, name))
        except ConfigError as error:
            raise InputError(
                f"the manifest of llamacpp-pipeline {self.manifest.pipeline_version} cannot be"
                " planned here",
                evidence=error.evidence,
                hint="say where local files lie: `--set model.path=FOLDER`, `--set"
                " calibration.corpus.path=FILE`; or use the version that wrote the manifest",
            ) from error

    def run(self, config: Mapping[str, Any], *, labelled_as_told: bool) -> Made:
        """Make the files' steps, in a store of their own."""
        loaded = self.loaded(config)
        tools = described(loaded, self.runner)
        store = open_store(self.root / "store")
        prepared = prepare(loaded, store=store, tools=tools)
        if labelled_as_told:
            prepared = replanned(prepared, self.labelled(prepared.plan), tools=tools)
        steps = tuple(key for key in self.steps if key in prepared.fingerprints)
        self.refuse_stand_in(prepared, steps)
        built(tools, runner=self.runner, talk=StderrTalk())
        workshop = Workshop(
            store=store,
            runner=self.runner,
            tools=tools,
            machine=prepared.machine,
            environ={**os.environ, VARIABLE: str(store.root)},
        )
        report = execute(
            prepared.plan,
            fingerprints=prepared.fingerprints,
            workshop=workshop,
            reporter=Progress(),
            choice=Choice(only=steps),
        )
        return Made(prepared=prepared, report=report, tools=tools)

    def labelled(self, plan: Plan) -> Plan:
        """The plan with the labels that the manifest's files have."""
        told = {step.key: step.labels for step in self.manifest.steps}
        return Plan(steps=tuple(replace(s, labels=told.get(s.key, s.labels)) for s in plan.steps))

    def refuse_stand_in(self, prepared: Prepared, steps: tuple[str, ...]) -> None:
        """The text that stands in for the evaluation text must not be used.

        Raises:
            InputError: naming the text that is needed.

        """
        asked = self.manifest.config["evaluation"]["corpus"]
        corpus = prepared.loaded.config.evaluation.corpus
        if corpus.demo is None or asked.get("demo") is not None:
            return
        stand_in = prepared.sources.evaluation
        users = [
            step.key
            for step in chosen(prepared.plan, steps)
            if step.stage not in (CHECK_TEXTS, CHECK_SELECTION) and stand_in in step.inputs.values()
        ]
        if users and isinstance(stand_in, Leaf):
            raise InputError(
                f"{users[0]} needs the evaluation text {asked['path']}",
                hint=f"say where it lies: `--set {EVALUATION}=FILE`",
            )

    def with_published_imatrix(self, first: Made, found: tuple[FileVerdict, ...]) -> Made | None:
        """The run again with the published imatrix, where ours is another within the error."""
        ours = next((f for f in found if f.step == IMATRIX and f.verdict == "differs"), None)
        if ours is None:
            return None
        published = self.beside / ours.name
        if not published.is_file() or sha256_of(published) != ours.expected:
            click.echo(
                f"{ours.name} is not beside the manifest: what was made from it cannot be told"
                " from what another imatrix makes",
                err=True,
            )
            return None
        made = first.report.entries[IMATRIX].path("imatrix")
        off = imatrix_difference(imatrix_file.read(made), imatrix_file.read(published))
        if off is None or off > IMATRIX_TOLERANCE:
            return None
        click.echo(f"{ours.name}: differs by {off:.2e}; the rest is made from it", err=True)
        copy = self.root / "published" / "imatrix.gguf"  # the name is written into the files
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(published, copy)
        return self.run(with_imatrix(self.config(), str(copy.absolute())), labelled_as_told=True)


def located(value: Any, folder: Path) -> Any:  # noqa: ANN401  any JSON value
    """Every `path` that has become a bare name, looked for in the folder of the manifest."""
    if isinstance(value, Mapping):
        return {
            key: str((folder / item).absolute())
            if key == "path" and isinstance(item, str)
            else located(item, folder)
            for key, item in value.items()
        }
    return [located(item, folder) for item in value] if isinstance(value, list) else value
