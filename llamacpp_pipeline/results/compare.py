"""Results of several runs side by side: joined only where they were measured alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Literal

from llamacpp_pipeline.errors import UsageError
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.documented import Documented
from llamacpp_pipeline.results.rivals import KldDifference, documented
from llamacpp_pipeline.results.table import VariantRow
from llamacpp_pipeline.stages.paired import kld_difference

Kind = Literal["quality", "tasks", "speed"]
KINDS: tuple[Kind, ...] = ("quality", "tasks", "speed")
TASKS = ("sha256", "template", "template_version", "n_tasks", "n_ctx", "n_parallel", "n_batch",
         "n_ubatch", "flash_attn", "build_id")  # fmt: skip
Values = Mapping[str, str]
QUALITY = ("n_ctx", "n_chunks", "n_batch", "n_ubatch", "flash_attn", "build_id")


class ComparedRun(Documented):
    """One results document."""

    key: str
    """What it is called here: A, B, ..."""
    source: str
    """The folder or file it was read from, as given."""
    document: ResultsDocument
    """All of it."""


class Condition(Documented):
    """Something that figures depend on and that differs."""

    name: str
    """Which."""
    one: str
    """In the first of both."""
    other: str
    """In the second."""


class JoinedRuns(Documented):
    """Runs whose figures of a kind were measured alike, and so stand in one table."""

    kind: Kind
    """PPL and KLD, task scores, or tokens per second."""
    runs: tuple[str, ...]
    """Their keys."""
    apart_from: str | None = None
    """The first run of that kind, where these were measured under other conditions."""
    differing: tuple[Condition, ...] = ()
    """How their conditions differ from those of `apart_from`."""


class SameFile(Documented):
    """A variant of the same name in two runs that were measured alike."""

    label: str
    """Its name."""
    one: str
    """Key of the first run."""
    other: str
    """Key of the second."""
    same_bytes: bool
    """Whether both made the very same file."""
    larger_by_bytes: int
    """Size in the second run less that in the first."""
    mean_kld: KldDifference | None
    """Mean KLD in the second run less that in the first; null where one was not measured."""


class RunsComparison(Documented):
    """What may be said of several runs together."""

    runs: tuple[ComparedRun, ...]
    """The runs, in the order given."""
    joined: tuple[JoinedRuns, ...]
    """Which of them were measured alike."""
    despite: tuple[str, ...] = ()
    """Conditions that were let differ because the user asked for it."""
    files: tuple[SameFile, ...] = ()
    """Files of the same name: every later run against the first one measured like it."""

    def run(self, key: str) -> ComparedRun:
        """The run of that key."""
        return next(run for run in self.runs if run.key == key)

    @property
    def refused(self) -> tuple[JoinedRuns, ...]:
        """What was not joined."""
        return tuple(group for group in self.joined if group.apart_from is not None)


def compare_runs(
    sources: Sequence[tuple[str, ResultsDocument]], *, despite: Sequence[str] = ()
) -> RunsComparison:
    """Results side by side; `despite` names conditions that may differ.

    Raises:
        UsageError: where `despite` names something that is no condition, or there are fewer than
            two documents or more than there are letters.

    """
    if not 2 <= len(sources) <= len(ascii_uppercase):
        raise UsageError(
            f"compare: {len(sources)} results given",
            hint=f"name 2 to {len(ascii_uppercase)} result folders, or their results.json",
        )
    runs = tuple(
        ComparedRun(key=key, source=source, document=document)
        for key, (source, document) in zip(ascii_uppercase, sources, strict=False)
    )
    _refuse_unknown(despite, runs)
    joined = tuple(group for kind in KINDS for group in _groups(runs, kind, frozenset(despite)))
    return RunsComparison(
        runs=runs, joined=joined, despite=tuple(despite), files=tuple(_files(runs))
    )


def conditions_of(document: ResultsDocument, kind: Kind) -> Values | None:
    """What figures of a kind depend on; None where none were measured."""
    if kind == "speed":
        return None if document.speed is None else _written(document.speed)
    if kind == "tasks":
        return _task_conditions(document)
    if all(row.ppl is None for row in document.rows()):
        return None
    every = _written(document.conditions)
    return {
        "corpus": document.conditions.corpus.sha256,
        "reference": document.reference.sha256,
        **{name: every[name] for name in QUALITY},
    }


def _task_conditions(document: ResultsDocument) -> Values | None:
    """Of every set; `ids` are as good as the file's digest."""
    if document.tasks is None:
        return None
    return {
        f"{each.name}.{name}": value
        for each in document.tasks.sets
        for name, value in _written(each).items()
        if name in TASKS
    }


def _groups(
    runs: Sequence[ComparedRun], kind: Kind, despite: frozenset[str]
) -> Sequence[JoinedRuns]:
    known = {run.key: values for run in runs if (values := conditions_of(run.document, kind))}
    groups: list[list[str]] = []
    for key, values in known.items():
        alike = (g for g in groups if not _differing(known[g[0]], values, despite))
        found = next(alike, None)
        if found is None:
            groups.append([key])
        else:
            found.append(key)
    first = groups[0][0] if groups else ""
    return [
        JoinedRuns(
            kind=kind,
            runs=tuple(group),
            apart_from=first if at else None,
            differing=_differing(known[first], known[group[0]], despite) if at else (),
        )
        for at, group in enumerate(groups)
    ]


def _differing(one: Values, other: Values, despite: frozenset[str]) -> tuple[Condition, ...]:
    return tuple(
        Condition(name=name, one=one.get(name, ""), other=other.get(name, ""))
        for name in dict.fromkeys([*one, *other])
        if name not in despite and one.get(name) != other.get(name)
    )


def _files(runs: Sequence[ComparedRun]) -> Sequence[SameFile]:
    alike = [group for group in _groups(runs, "quality", frozenset()) if len(group.runs) > 1]
    by_key = {run.key: run for run in runs}
    return [
        _same_file(by_key[group.runs[0]], by_key[key], row)
        for group in alike
        for key in group.runs[1:]
        for row in by_key[key].document.variants
        if by_key[group.runs[0]].document.row(row.label) is not None
    ]


def _same_file(one: ComparedRun, other: ComparedRun, row: VariantRow) -> SameFile:
    before = one.document.row(row.label)
    assert before is not None  # noqa: S101  it was looked for
    measured = row.quality is not None and before.quality is not None
    return SameFile(
        label=row.label,
        one=one.key,
        other=other.key,
        same_bytes=row.sha256 == before.sha256,
        larger_by_bytes=row.size.file_bytes - before.size.file_bytes,
        mean_kld=documented(kld_difference(row.quality, before.quality))
        if measured and row.quality is not None and before.quality is not None
        else None,
    )


def _refuse_unknown(despite: Sequence[str], runs: Sequence[ComparedRun]) -> None:
    known = sorted(
        {name for run in runs for kind in KINDS for name in conditions_of(run.document, kind) or ()}
    )
    unknown = [name for name in despite if name not in known]
    if unknown:
        raise UsageError(
            f"--despite {unknown[0]}: no condition of these results",
            hint=f"one of {', '.join(known)}",
        )


def _written(conditions: Documented) -> dict[str, str]:
    """Each condition as text; what consists of several stands under dotted names."""
    return dict(_leaves(conditions.model_dump(mode="json")))


def _leaves(values: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _leaves(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", str(value)))
    return found
