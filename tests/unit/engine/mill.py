"""A small world for the engine: a stage, a runner that plays a script, a patient reporter."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llamacpp_pipeline.engine.events import Event, Silent
from llamacpp_pipeline.engine.make import Workshop
from llamacpp_pipeline.engine.store import Store
from llamacpp_pipeline.errors import UnreadableOutputError
from llamacpp_pipeline.plan.fingerprint import fingerprints
from llamacpp_pipeline.plan.step import Input, Leaf, OutputRef, Plan, Step
from llamacpp_pipeline.process.command import Command, Outcome, Watcher
from llamacpp_pipeline.results.record import Machine
from llamacpp_pipeline.stages.base import Argv, Frozen, MadeBy, Paths, ProgressPattern, ToolStage

MACHINE = Machine(hostless_name="a CPU (2 cores)", system="Linux", n_cores=2, memory_bytes=8 << 30)
GOOD_LOG = "grinding\nresult: 7.5\n"


class GrindParams(Frozen):
    fineness: int = 1


class GrindResult(Frozen):
    value: float


def argv(params: GrindParams, paths: Paths) -> Argv:
    given = (f"--{name}={path}" for name, path in sorted(paths.items()))
    return ("mill", "--fineness", str(params.fineness), *given)


def parse(log: str, paths: Paths) -> GrindResult:
    del paths
    found = re.search(r"result: (?P<value>\S+)", log)
    if found is None:
        raise UnreadableOutputError("mill", "'result: ...'", ("it said nothing",))
    return GrindResult(value=float(found["value"]))


GRIND: ToolStage[GrindParams, GrindResult] = ToolStage(
    name="grind",
    version=1,
    tool="mill",
    made_by="binary",
    inputs=frozenset(),
    optional_inputs=frozenset({"grain"}),
    outputs={"flour": "flour.bin"},
    params=GrindParams,
    result=GrindResult,
    argv=argv,
    parse=parse,
    progress=ProgressPattern(
        done=re.compile(r"\[(?P<n>\d+)\]"), total=re.compile(r"of (?P<n>\d+)"), unit="sack"
    ),
)


def step(key: str, *, stage: ToolStage[GrindParams, GrindResult] = GRIND, **given: object) -> Step:
    inputs = {name: value for name, value in given.items() if not isinstance(value, (int, tuple))}
    after = given.get("after", ())
    assert isinstance(after, tuple)
    fineness = given.get("fineness", sum(map(ord, key)))
    assert isinstance(fineness, int)
    return Step(
        key=key,
        stage=stage,
        params=GrindParams(fineness=fineness),
        inputs={name: checked(value) for name, value in inputs.items()},
        after=after,
    )


def checked(value: object) -> Input:
    assert isinstance(value, (Leaf, OutputRef))
    return value


def flour_of(key: str, member: str | None = None) -> OutputRef:
    return OutputRef(step=key, output="flour", member=member)


def plan(*steps: Step) -> Plan:
    return Plan(steps=steps)


@dataclass(frozen=True, kw_only=True)
class Play:
    """One run of a child, as scripted: what it leaves, prints, and how it ends."""

    log: str = GOOD_LOG
    files: Mapping[str, str] = field(default_factory=lambda: {"flour.bin": "flour"})
    exit_code: int = 0
    error: BaseException | None = None
    before: Callable[[Command], None] | None = None


class FakeRunner:
    """Plays a queue of outcomes; good ones when it is empty. Keeps what it was asked to run."""

    def __init__(self, *plays: Play) -> None:
        self.queue = list(plays)
        self.history: list[Command] = []

    def run(self, command: Command, watcher: Watcher | None = None) -> Outcome:
        self.history.append(command)
        play = self.queue.pop(0) if self.queue else Play()
        if play.before is not None:
            play.before(command)
        command.log.write_text(f"$ {' '.join(command.argv)}\n{play.log}")
        if watcher is not None:
            watcher.output(play.log)
        for name, text in play.files.items():
            (command.cwd / name).parent.mkdir(parents=True, exist_ok=True)
            (command.cwd / name).write_text(text)
        if play.error is not None:
            raise play.error
        return Outcome(
            command=command,
            exit_code=play.exit_code,
            seconds=1.5,
            cpu_seconds=2.5,
            peak_rss_bytes=3 << 20,
        )


@dataclass(frozen=True, kw_only=True)
class FakeTools:
    note: str | None = None
    build_id: str = "build-1"

    def prefix(self, tool: str) -> tuple[str, ...]:
        return (f"/somewhere/bin/{tool}",)

    def identity(self, made_by: MadeBy) -> str:
        return "" if made_by == "pipeline" else self.build_id


class Recorder(Silent):
    """A reporter that keeps every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def tell(self, event: Event) -> None:
        self.events.append(event)

    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.events]


def workshop(
    store: Store, runner: FakeRunner, environ: Mapping[str, str] | None = None
) -> Workshop:
    return Workshop(
        store=store, runner=runner, tools=FakeTools(), machine=MACHINE, environ=environ or {}
    )


def identified(given: Plan, build_id: str = "build-1") -> dict[str, str]:
    tools = FakeTools(build_id=build_id)
    return fingerprints(given, identity=tools.identity, machine="here")


def store_in(folder: Path, warnings: list[str] | None = None) -> Store:
    heard = [] if warnings is None else warnings
    return Store(folder / "store", warn=heard.append)
