"""The step `probe` with a child that measures as llama-kld-probe does, for tests to kill."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from llamacpp_pipeline.engine.digests import Digests
from llamacpp_pipeline.engine.execute import RunReport, execute
from llamacpp_pipeline.engine.leaves import leaf_from_file
from llamacpp_pipeline.engine.make import Workshop
from llamacpp_pipeline.engine.progress import Progress
from llamacpp_pipeline.engine.store import Store
from llamacpp_pipeline.errors import PipelineError
from llamacpp_pipeline.plan.fingerprint import fingerprints
from llamacpp_pipeline.plan.step import Plan, Step
from llamacpp_pipeline.process.runner import LocalRunner
from llamacpp_pipeline.stages.base import MadeBy
from llamacpp_pipeline.stages.probe import STAGE, ProbeParams
from tests.process.runs import MACHINE

GOOD = Path(__file__).parents[1] / "logs" / "llama-kld-probe" / "b10454" / "good.jsonl"
N_BEFORE = 5  # measurements, after which the child stands still unless told to go on
CHILD = """
import json, pathlib, sys, time
good, go_on, n_before, *argv = sys.argv[1:]
results = pathlib.Path(argv[argv.index("--results") + 1])
before = results.read_text().split("\\n")[:-1] if results.exists() else []
known = {json.loads(line)["key"] for line in before}
lines = pathlib.Path(good).read_text().splitlines()
print(f"probe: {len(lines)} measurements, {len(known)} of them reused", flush=True)
for n, line in enumerate(lines):
    if json.loads(line)["key"] in known:
        continue
    if n == int(n_before) and not pathlib.Path(go_on).exists():
        time.sleep(300)
    with results.open("a") as file:
        file.write(line + "\\n")
print("probe: done in 1.0 seconds", flush=True)
"""


class Prober:
    note: str | None = None

    def __init__(self, folder: Path) -> None:
        self.go_on = folder / "go_on"

    def prefix(self, tool: str) -> tuple[str, ...]:
        assert tool == STAGE.tool
        return (sys.executable, "-c", CHILD, str(GOOD), str(self.go_on), str(N_BEFORE))

    def identity(self, made_by: MadeBy) -> str:
        return made_by


def run(folder: Path) -> RunReport:
    """Probe `folder`/model.gguf on `folder`/text.txt."""
    digests, tools, stop = Digests(folder / "digests"), Prober(folder), threading.Event()
    given = {"model": "model.gguf", "corpus": "text.txt"}
    step = Step(
        key="probe",
        stage=STAGE,
        params=ProbeParams(n_ctx=64, n_chunks=4, types=("q2_K", "q8_0")),
        inputs={
            name: leaf_from_file(folder / file, name, digests=digests)
            for name, file in given.items()
        },
    )
    plan = Plan(steps=(step,))
    with LocalRunner(stop=stop) as runner:
        return execute(
            plan,
            fingerprints=fingerprints(plan, identity=tools.identity, machine="here"),
            workshop=Workshop(
                store=Store(folder / "store"),
                runner=runner,
                tools=tools,
                machine=MACHINE,
                environ=os.environ,
                stop=stop,
            ),
            reporter=Progress(),
        )


def main() -> int:
    try:
        return run(Path(sys.argv[1])).exit_code
    except PipelineError as error:
        sys.stderr.write(f"{error.report()}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
