"""The sets that a configuration asks for: the registry's word, and the configuration's over it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llamacpp_pipeline.config.clash import Clash
from llamacpp_pipeline.config.datasets import DatasetConfig
from llamacpp_pipeline.config.hub_file import HubFile
from llamacpp_pipeline.config.spelling import did_you_mean
from llamacpp_pipeline.datasets.layouts import Layout
from llamacpp_pipeline.datasets.registry import DemoSet, KnownCopy, KnownSet, known_sets
from llamacpp_pipeline.datasets.rows import READY, Container, container_of
from llamacpp_pipeline.datasets.task import Form
from llamacpp_pipeline.datasets.templates import Template, templates

if TYPE_CHECKING:
    from llamacpp_pipeline.config.schema import PipelineConfig

FORM_OF: Mapping[Layout, Form] = {"hellaswag": "hellaswag", "winogrande": "winogrande"}
FORM_IN: Mapping[Container, Form] = {"six-line": "hellaswag", "winogrande-csv": "winogrande"}


@dataclass(frozen=True, kw_only=True)
class SetPart:
    """One source of a set."""

    name: str  # of the set whose source it is
    label: str  # before the ids of its tasks; "" where the set has one source
    hub: HubFile | None = None
    url: str | None = None
    path: str | None = None  # as the configuration has it
    at: str | None = None  # the dotted path of the configuration where `path` stands
    demo: DemoSet | None = None
    sha256: str | None = None
    container: Container | None = None  # None: as the file's digest or name tells
    layout: Layout | None = None  # None: as the container tells
    copies: tuple[KnownCopy, ...] = ()
    gated: bool = False
    consent: bool = False

    @property
    def file_name(self) -> str:
        """What its file is called."""
        named = self.path or self.url or (self.hub.unpacked if self.hub is not None else None)
        return named or f"{self.name}.jsonl"


@dataclass(frozen=True, kw_only=True)
class TaskSet:
    """A set as it will be run."""

    name: str
    title: str
    form: Form
    template: Template
    parts: tuple[SetPart, ...]
    n_tasks: int | None
    seed: int
    licence: str | None
    citation: str | None

    @property
    def gated(self) -> bool:
        """Whether its text must not be passed on."""
        return any(part.gated for part in self.parts)


def task_sets(config: PipelineConfig) -> tuple[TaskSet, ...]:
    """The sets asked for, in that order; the configuration has no clashes."""
    asked = config.tasks
    if asked is None:
        return ()
    own = {said.name: (at, said) for at, said in enumerate(config.datasets)}
    return tuple(_set(name, own, n_tasks=asked.n_tasks, seed=asked.seed) for name in asked.sets)


Own = Mapping[str, tuple[int, DatasetConfig]]


def _set(name: str, own: Own, *, n_tasks: int | None, seed: int) -> TaskSet:
    known = known_sets().get(name)
    said = own[name][1] if name in own else DatasetConfig(name=name)
    parts = _parts(name, own)
    return TaskSet(
        name=name,
        title=said.title or (known.title if known else name),
        form=_form(said, known, parts),
        template=_template(said, known, parts),
        parts=parts,
        n_tasks=said.n_tasks or n_tasks,
        seed=seed,
        licence=said.licence or (known.licence if known else None),
        citation=said.citation or (known.citation if known else None),
    )


def _parts(name: str, own: Own) -> tuple[SetPart, ...]:
    known = known_sets().get(name)
    replaced = name in own and own[name][1].has_source
    if known is None or not known.combines or replaced:
        return (_part(name, own, label=""),)
    return tuple(_part(each, own, label=each) for each in known.combines)


def _part(name: str, own: Own, *, label: str) -> SetPart:
    known = known_sets().get(name)
    at, said = own.get(name, (None, DatasetConfig(name=name)))
    gated = said.gated or (known is not None and known.gated)
    copies = known.copies if known else ()
    if said.has_source:
        return SetPart(
            name=name,
            label=label,
            hub=said.hub,
            url=said.url,
            path=said.path,
            at=f"datasets.{at}.path" if said.path is not None else None,
            sha256=said.sha256 or (said.hub.sha256 if said.hub else None),
            container=said.container,
            layout=said.layout or (known.layout if known else None),
            copies=copies,
            gated=gated,
            consent=said.consent,
        )
    return _published(name, label=label, consent=said.consent)


def _published(name: str, *, label: str, consent: bool) -> SetPart:
    known = known_sets()[name]
    source = known.source
    assert source is not None  # noqa: S101  only a combined set has none, and it has parts
    hub = source.hub
    return SetPart(
        name=name,
        label=label,
        hub=None
        if hub is None
        else HubFile(
            repo=hub.repo,
            repo_type="dataset",
            revision=hub.revision,
            file=hub.file,
            sha256=source.sha256,
        ),
        url=source.url,
        demo=source.demo,
        sha256=source.sha256,
        layout=known.layout,
        copies=known.copies,
        gated=known.gated,
        consent=consent,
    )


def _form(said: DatasetConfig, known: KnownSet | None, parts: Sequence[SetPart]) -> Form:
    if said.form is not None or known is not None:
        return said.form or known.form  # type: ignore[union-attr]  # one of them is there
    container = said.container or container_of(parts[0].file_name)
    by_layout = FORM_OF.get(said.layout) if said.layout else None
    return by_layout or (FORM_IN.get(container) if container else None) or "multiple-choice"


def _template(said: DatasetConfig, known: KnownSet | None, parts: Sequence[SetPart]) -> Template:
    if said.template is not None:
        return templates()[said.template]
    ready = said.container in READY or (
        said.has_source and said.container is None and container_of(parts[0].file_name) in READY
    )
    if known is not None and not ready:
        return templates()[known.template]
    worded = ready or said.layout in ("task", "hellaswag", "winogrande")
    return templates()["continuation" if worded else "question-answer"]


def set_clashes(config: PipelineConfig) -> Iterator[Clash]:
    """Sets that nobody knows, without a source, twice, or without their publisher's consent."""
    yield from _own_clashes(config.datasets)
    asked = () if config.tasks is None else config.tasks.sets
    own = {said.name: (at, said) for at, said in enumerate(config.datasets)}
    for at, name in enumerate(asked):
        path = ("tasks", "sets", at)
        if name in asked[:at]:
            yield Clash(path=path, message=f"{name} is named twice: name it once")
        elif name not in known_sets() and name not in own:
            near = did_you_mean(name, (*known_sets(), *own))
            message = f"no set is named {name}{near}: the registry has {', '.join(known_sets())}"
            yield Clash(path=path, message=message)
        elif name in known_sets() or own[name][1].has_source:
            yield from _consent_clashes(_parts(name, own), path)


def _consent_clashes(parts: Sequence[SetPart], path: tuple[str | int, ...]) -> Iterator[Clash]:
    for part in parts:
        if part.gated and not part.consent:
            message = (
                f"{part.name} is gated: accept its terms on its page, then say so with"
                f" `datasets: [{{name: {part.name}, consent: true}}]`"
            )
            yield Clash(path=path, message=message)


def _own_clashes(own: Sequence[DatasetConfig]) -> Iterator[Clash]:
    for at, said in enumerate(own):
        if any(said.name == other.name for other in own[:at]):
            message = f"a second set named {said.name}: give one of them another `name`"
            yield Clash(path=("datasets", at, "name"), message=message)
        known = known_sets().get(said.name)
        if known is None and not said.has_source:
            near = did_you_mean(said.name, known_sets())
            message = f"{said.name} needs one of `path`, `hub` and `url`, or a known name{near}"
            yield Clash(path=("datasets", at), message=message)
        elif said.has_source:
            yield from _unreadable(said, known, at=at)


def _unreadable(said: DatasetConfig, known: KnownSet | None, *, at: int) -> Iterator[Clash]:
    name = said.path or said.url or (said.hub.unpacked if said.hub else "")
    container = said.container or container_of(name)
    copies = () if known is None else known.copies
    if container is None and not (copies and said.path):
        message = f"what {name} is cannot be told from its name: say so with `container`"
        yield Clash(path=("datasets", at), message=message)
    elif container not in READY and said.layout is None and (known is None or not known.layout):
        message = f"say with `layout` which columns {name} has"
        yield Clash(path=("datasets", at), message=message)
