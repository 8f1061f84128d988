"""All that is decided before a run: the plan, what identifies its steps, what it will take."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llamacpp_pipeline.config.load import LoadedConfig
from llamacpp_pipeline.engine.digests import sha256_of_text, write_atomically
from llamacpp_pipeline.engine.experience import experience
from llamacpp_pipeline.engine.machine import machine_identity, this_machine
from llamacpp_pipeline.engine.make import Tools
from llamacpp_pipeline.engine.requirements import is_of_a_set, refuse_unmet
from llamacpp_pipeline.engine.resolve import Resolver, is_offline
from llamacpp_pipeline.engine.store import Store
from llamacpp_pipeline.errors import PipelineError
from llamacpp_pipeline.plan.budget import Budget, History, budget
from llamacpp_pipeline.plan.expand import expand
from llamacpp_pipeline.plan.fingerprint import documents, explain, fingerprint
from llamacpp_pipeline.plan.lanes import Lanes
from llamacpp_pipeline.plan.sources import UNKNOWN, ModelHints, Sources, hints_of
from llamacpp_pipeline.plan.step import Leaf, Plan
from llamacpp_pipeline.results.record import Machine, StepRecord
from llamacpp_pipeline.stages.inspect import InspectResult, inspect_folder

Document = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run that could start now."""

    loaded: LoadedConfig
    sources: Sources
    plan: Plan
    documents: Mapping[str, Document]  # what identifies each step, by its key
    fingerprints: Mapping[str, str]
    machine: Machine
    store: Store

    def hits(self) -> dict[str, StepRecord]:
        """The steps that the store has, by their keys."""
        found = {
            step.key: self.store.lookup(self.fingerprints[step.key]) for step in self.plan.steps
        }
        return {key: record for key, record in found.items() if record is not None}

    def budget(self, hits: Mapping[str, StepRecord]) -> Budget:
        """What the rest will take; times from all steps in the store that were run here."""
        history = History(
            finished={key: sum(f.size_bytes for f in r.outputs) for key, r in hits.items()},
            timed=experience(self.store, self.machine),
            digests=self.fingerprints,
            n_threads=self.machine.n_cores,
        )
        devices = self.loaded.config.placement.devices
        lanes = Lanes(devices=tuple(map(str, devices)))
        return budget(self.plan, self.sources, history=history, lanes=lanes)

    def why_missing(self, key: str, *, out: Path) -> tuple[str, ...]:
        """How a step differs from the one last run into `out`; empty where it is new there."""
        last = remembered(self.store, out).get(key)
        return () if last is None else explain(last, self.documents[key])

    def remember(self, out: Path) -> None:
        """Keep what identifies the steps, so that a later plan can say what has changed."""
        write_atomically(memory(self.store, out), json.dumps(self.documents))


def prepare(loaded: LoadedConfig, *, store: Store, tools: Tools) -> Prepared:
    """Look at the sources, and plan.

    Raises:
        InputError: a source cannot be used.
        ConfigError: the plan would measure on its calibration text, or lacks what its
            evaluation sets need.

    """
    texts = store.root / "texts"
    offline = is_offline()
    resolver = Resolver(loaded=loaded, digests=store.digests, texts=texts, offline=offline)
    sources = resolver.sources()
    plan = expand(loaded.config, sources)
    machine = this_machine()
    bodies = documents(plan, identity=tools.identity, machine=machine_identity(machine))
    prints = {key: fingerprint(body) for key, body in bodies.items()}
    todo = [s for s in plan.steps if is_of_a_set(s) and store.lookup(prints[s.key]) is None]
    refuse_unmet(loaded.config, todo, offline=offline)
    return Prepared(
        loaded=loaded,
        sources=replace(
            sources, hints=hints(resolver, sources, inspected=store.lookup(prints["inspect"]))
        ),
        plan=plan,
        documents=bodies,
        fingerprints=prints,
        machine=machine,
        store=store,
    )


def replanned(prepared: Prepared, plan: Plan, *, tools: Tools) -> Prepared:
    """The same run with another plan of the same sources."""
    machine = machine_identity(prepared.machine)
    bodies = documents(plan, identity=tools.identity, machine=machine)
    prints = {key: fingerprint(body) for key, body in bodies.items()}
    return replace(prepared, plan=plan, documents=bodies, fingerprints=prints)


def hints(resolver: Resolver, sources: Sources, *, inspected: StepRecord | None) -> ModelHints:
    """What is known of the model: from its inspection, a folder at hand, or the Hub's listing."""
    if inspected is not None:
        try:
            return hints_of(InspectResult.model_validate(inspected.result))
        except ValidationError:
            return UNKNOWN
    if not isinstance(sources.model, Leaf):
        return UNKNOWN if resolver.offline else resolver.told(sources.model)
    try:
        return hints_of(inspect_folder(sources.model.path))
    except PipelineError:
        return UNKNOWN  # the inspect step will say what is wrong, with its log


def memory(store: Store, out: Path) -> Path:
    """Where the last plan run into a result folder is remembered."""
    return store.root / "plans" / f"{sha256_of_text(str(out.absolute()))}.json"


def remembered(store: Store, out: Path) -> dict[str, Document]:
    """The documents of the last plan run into `out`; none where there was no run or no memory."""
    try:
        found = json.loads(memory(store, out).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
