"""A plan whose steps are real children, and a script that runs it, for tests to kill."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from llamacpp_pipeline.engine.devices import Device, Devices
from llamacpp_pipeline.engine.execute import RunReport, execute
from llamacpp_pipeline.engine.make import Workshop
from llamacpp_pipeline.engine.progress import Progress
from llamacpp_pipeline.engine.store import Store
from llamacpp_pipeline.errors import PipelineError, UnreadableOutputError
from llamacpp_pipeline.plan.fingerprint import fingerprints
from llamacpp_pipeline.plan.step import OutputRef, Plan, Step
from llamacpp_pipeline.process.runner import LocalRunner
from llamacpp_pipeline.results.record import Machine
from llamacpp_pipeline.stages.base import Argv, Frozen, MadeBy, Paths, ToolStage

MACHINE = Machine(hostless_name="a CPU", system="Linux", n_cores=2, memory_bytes=8 << 30)
CHILD = """
import os, pathlib, sys, time
name, megabytes, seconds, diary, target, *given = sys.argv[1:]
with open(diary, "a") as file:
    file.write(f"{name} {os.getpid()}\\n")
print("inputs", given, flush=True)
with open(target, "wb") as file:
    for _ in range(int(megabytes)):
        file.write(bytes(1 << 20))
        file.flush()
    file.write(name.encode())
time.sleep(float(seconds))
print("result: 1", flush=True)
"""


class BakeParams(Frozen):
    name: str
    megabytes: int = 0
    seconds: float = 0.0
    diary: str  # a file outside the store in which every child signs


class BakeResult(Frozen):
    size_bytes: int


def argv(params: BakeParams, paths: Paths) -> Argv:
    given = (str(path) for name, path in paths.items() if name != "bread")
    numbers = (str(params.megabytes), str(params.seconds))
    return ("bake", params.name, *numbers, params.diary, str(paths["bread"]), *given)


def parse(log: str, paths: Paths) -> BakeResult:
    if "result: 1" not in log:
        raise UnreadableOutputError("bake", "'result: 1'", log.splitlines()[-3:])
    return BakeResult(size_bytes=paths["bread"].stat().st_size)


BAKE: ToolStage[BakeParams, BakeResult] = ToolStage(
    name="bake",
    version=1,
    tool="bake",
    made_by="pipeline",
    inputs=frozenset(),
    optional_inputs=frozenset({"dough"}),
    outputs={"bread": "bread.bin"},
    params=BakeParams,
    result=BakeResult,
    argv=argv,
    parse=parse,
)


MEASURE = replace(BAKE, lane="device")


class Oven:
    note: str | None = None

    def prefix(self, tool: str) -> tuple[str, ...]:
        del tool
        return (sys.executable, "-c", CHILD)

    def identity(self, made_by: MadeBy) -> str:
        return made_by


def chain(diary: Path, *, seconds: float = 0.0, megabytes: int = 0) -> Plan:
    """Two steps; the second takes its time."""
    first = BakeParams(name="first", diary=str(diary))
    second = BakeParams(name="second", diary=str(diary), seconds=seconds, megabytes=megabytes)
    return Plan(
        steps=(
            Step(key="first", stage=BAKE, params=first, inputs={}),
            Step(
                key="second",
                stage=BAKE,
                params=second,
                inputs={"dough": OutputRef(step="first", output="bread")},
            ),
        )
    )


def identified(plan: Plan) -> dict[str, str]:
    return fingerprints(plan, identity=Oven().identity, machine="here")


def fork(diary: Path, *, seconds: float = 0.0) -> Plan:
    """The same, and a third that can be baked beside the second."""
    first, second = chain(diary, seconds=seconds).steps
    params = BakeParams(name="third", diary=str(diary), seconds=seconds)
    third = replace(second, key="third", params=params)
    return Plan(steps=(first, *(replace(s, stage=MEASURE) for s in (second, third))))


def run(plan: Plan, store: Store, devices: Sequence[str] = ()) -> RunReport:
    stop = threading.Event()
    with LocalRunner(stop=stop) as runner:
        return execute(
            plan,
            fingerprints=identified(plan),
            workshop=Workshop(
                store=store,
                runner=runner,
                tools=Oven(),
                machine=MACHINE,
                environ=os.environ,
                devices=Devices(each=tuple(Device(name=name) for name in devices)),
                stop=stop,
            ),
            reporter=Progress(),
        )


def main() -> int:
    folder, seconds, devices = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    plan = (fork if devices else chain)(folder / "diary", seconds=seconds)
    try:
        report = run(plan, Store(folder / "store"), devices)
    except PipelineError as error:
        sys.stderr.write(f"{error.report()}\n")
        return error.exit_code
    sys.stdout.write(f"{report.summary()}\n")
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
