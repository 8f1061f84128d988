"""A run made again from its manifest: which files are the same, and why others are not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from llamacpp_pipeline.datasets.imatrix_file import Imatrix
from llamacpp_pipeline.results.manifest import Manifest, ManifestStep, versions
from llamacpp_pipeline.results.record import StepRecord
from llamacpp_pipeline.results.run import ToolchainFacts

# Two computations of one imatrix differ by the order in which floats are summed, which is the
# machine's. What lies beyond this is another imatrix: another text, model or build.
IMATRIX_TOLERANCE = 0.01  # |a - b| / |b| of a tensor's mean squares
SHORT = 12
IMATRIX = "imatrix"

Verdict = Literal["identical", "within error", "differs", "not made"]


@dataclass(frozen=True, kw_only=True)
class FileVerdict:
    """What became of one file of the manifest."""

    name: str
    step: str
    output: str
    verdict: Verdict
    expected: str  # sha256
    found: str | None
    reasons: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether it is the file, or as near as its making allows."""
        return self.verdict in ("identical", "within error")


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """The same plan, run again."""

    records: Mapping[str, StepRecord]
    toolchain: ToolchainFacts


def verdicts(manifest: Manifest, rebuilt: Rebuilt) -> tuple[FileVerdict, ...]:
    """Every file of the manifest, by digest; where one differs, the steps that explain it."""
    return tuple(
        _verdict(manifest, rebuilt, name=file.name, at=(file.step, file.output), want=file.sha256)
        for file in manifest.files
    )


def _verdict(
    manifest: Manifest, rebuilt: Rebuilt, *, name: str, at: tuple[str, str], want: str
) -> FileVerdict:
    step, output = at
    record = rebuilt.records.get(step)
    found = None
    if record is not None:
        found = next((f.sha256 for f in record.outputs if f.output == output), None)
    same = found == want
    verdict: Verdict = "not made" if found is None else "identical" if same else "differs"
    reasons = () if same else tuple(dict.fromkeys(reasons_of(manifest, rebuilt, step)))
    return FileVerdict(
        name=name,
        step=step,
        output=output,
        verdict=verdict,
        expected=want,
        found=found,
        reasons=reasons,
    )


def reasons_of(manifest: Manifest, rebuilt: Rebuilt, key: str) -> Iterator[str]:
    """Why a step left something else: what differs furthest up, said first."""
    before = _step(manifest, key)
    if before is None:
        yield f"{key}: the manifest does not have this step"
        return
    for source in _made_by(manifest, before):
        if _outputs_differ(manifest, rebuilt, source):
            yield from reasons_of(manifest, rebuilt, source)
    now = rebuilt.records.get(key)
    if now is None:
        yield f"{key}: it was not made"
        return
    own = (*_other_way(manifest, rebuilt, before, now), *_other_inputs(before, now))
    yield from (f"{key}: {difference}" for difference in own)
    upstream = any(_outputs_differ(manifest, rebuilt, s) for s in _made_by(manifest, before))
    if not own and not upstream:
        yield f"{key}: {_unexplained(before, now)}"


def _other_way(
    manifest: Manifest, rebuilt: Rebuilt, before: ManifestStep, now: StepRecord
) -> Iterator[str]:
    if before.stage_version != now.stage_version:
        versions_of = f"{before.pipeline_version} and {now.pipeline_version}"
        yield f"llamacpp-pipeline {versions_of} do this step differently"
    if before.made_by_id != now.made_by_id:
        yield from _other_maker(manifest, rebuilt, before)
    said = (
        *(
            (name, before.params.get(name), now.params.get(name))
            for name in _keys(before.params, now.params)
        ),
        *(
            (f"the metadata's {name}", before.labels.get(name), now.labels.get(name))
            for name in _keys(before.labels, now.labels)
        ),
    )
    yield from (f"{name} was {old!r} and is {new!r}" for name, old, new in said if old != new)


def _keys(*mappings: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for mapping in mappings for key in mapping))


def _other_inputs(before: ManifestStep, now: StepRecord) -> Iterator[str]:
    for name, source in before.inputs.items():
        given = now.inputs.get(name)
        if source.kind == "leaf" and (given is None or given.digest != source.digest):
            found = "nothing" if given is None else f"{given.label} ({given.digest[:SHORT]})"
            yield f"its {name} was {source.label} ({source.digest[:SHORT]}) and is {found}"


def _other_maker(manifest: Manifest, rebuilt: Rebuilt, before: ManifestStep) -> Iterator[str]:
    if before.made_by == "converter":
        ours = versions()
        names = sorted({*manifest.versions, *ours})
        other = [
            f"{name} {manifest.versions.get(name, 'absent')} and {ours.get(name, 'absent')}"
            for name in names
            if manifest.versions.get(name) != ours.get(name)
        ]
        yield f"another converter: {', '.join(other) or 'its source differs'}"
        return
    then, now = manifest.toolchain, rebuilt.toolchain
    other = [
        f"{name} {_said(getattr(then, name))} and {_said(getattr(now, name))}"
        for name in ("commit", "backend", "flags", "patches")
        if getattr(then, name) != getattr(now, name)
    ]
    known = ", ".join(other) or "the compiler or the content of a patch differs"
    builds = f"{then.build_id[:SHORT]} and {now.build_id[:SHORT]}"
    yield f"another build of llama.cpp ({builds}): {known}"


def _said(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _unexplained(before: ManifestStep, now: StepRecord) -> str:
    same_machine = before.machine == now.machine and before.placement == now.placement
    if before.stage == IMATRIX and not same_machine:
        return (
            "the same computation on another machine or placement, which sums floats in another"
            f" order ({before.machine.hostless_name}; here {now.machine.hostless_name})"
        )
    return "the same binaries and inputs left other bytes; please report this"


def _outputs_differ(manifest: Manifest, rebuilt: Rebuilt, key: str) -> bool:
    before, now = _step(manifest, key), rebuilt.records.get(key)
    if before is None or now is None:
        return True
    return {f.name: f.sha256 for f in before.outputs} != {f.name: f.sha256 for f in now.outputs}


def _made_by(manifest: Manifest, step: ManifestStep) -> tuple[str, ...]:
    keys = {other.fingerprint: other.key for other in manifest.steps}
    made = (source.digest for source in step.inputs.values() if source.kind == "step")
    return tuple(dict.fromkeys(keys[digest] for digest in made if digest in keys))


def _step(manifest: Manifest, key: str) -> ManifestStep | None:
    return next((step for step in manifest.steps if step.key == key), None)


def imatrix_difference(ours: Imatrix, theirs: Imatrix) -> float | None:
    """The largest relative difference of a tensor's mean squares; None: other tensors or counts."""
    if set(ours.entries) != set(theirs.entries):
        return None
    largest = 0.0
    for name, entry in theirs.entries.items():
        other = ours.entries[name]
        if entry.squares.shape != other.squares.shape or (entry.counts != other.counts).any():
            return None
        scale = float(np.linalg.norm(entry.squares))
        off = float(np.linalg.norm(entry.squares - other.squares))
        largest = max(largest, off / scale if scale else off)
    return largest
