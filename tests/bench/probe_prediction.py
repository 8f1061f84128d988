"""What `plan` says of a probe before it runs, and what the probe then takes.

    python -m tests.bench.probe_prediction --config FILE [--store DIR] [--evaluate]

Runs what comes before the probe, from an empty store (the imatrix, the reference's perplexity, the
check of the probe text), asks the plan, and runs the probe. With --evaluate it then makes and
measures all variants, and prints what measuring them took by their records. For a quiet machine:
the load of the last minute is printed before and after. The build must be there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BEFORE = ("imatrix", "reference", "check-probe")
MEASURED = ("probe", "curves")
EVALUATION = frozenset({"kld", "tasks", "bench", "reference"})
PROGRAM = "from llamacpp_pipeline.cli.main import main; main()"


@dataclass(frozen=True, kw_only=True)
class Project:
    config: Path
    store: Path

    def run(self, verb: str, *more: str) -> str:
        where = ("--config", self.config, "--store", self.store, "--out", self.store / "out")
        command: list[str | Path] = [sys.executable, "-c", PROGRAM, verb, *where, *more]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def steps(self) -> list[dict[str, Any]]:
        """The plan's, as they are now."""
        found: list[dict[str, Any]] = json.loads(self.run("plan", "--format", "json"))["steps"]
        return found

    def seconds(self) -> Iterator[tuple[str, str, float]]:
        """Key, stage and seconds of every step that is done."""
        for step in self.steps():
            if step["hit"]:
                print_of = step["fingerprint"]
                file = self.store / "objects" / print_of[:2] / print_of / "record.json"
                yield step["step"], step["stage"], json.loads(file.read_bytes())["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--store", type=Path, help="an empty folder; default: a temporary one")
    parser.add_argument("--evaluate", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = Project(config=options.config, store=options.store or Path(folder) / "store")
        predict(project)
        if options.evaluate:
            project.run("run")
            evaluation = [took for _, stage, took in project.seconds() if stage in EVALUATION]
            print(f"evaluation: {len(evaluation)} steps, {sum(evaluation):.1f} s")


def predict(project: Project) -> None:
    project.run("run", *(word for step in BEFORE for word in ("--only", step)))
    said = {s["step"]: (s["seconds"], s["seconds_from"]) for s in project.steps()}
    load = os.getloadavg()[0]
    project.run("run", *(word for step in MEASURED for word in ("--only", step)))
    print(f"load {load:.2f} before, {os.getloadavg()[0]:.2f} after")
    for key, _, took in project.seconds():
        if key in MEASURED:
            seconds, basis = said[key]
            share = "" if seconds is None else f", {seconds / took - 1:+.0%}"
            print(f"{key}: predicted {seconds} s (from {basis}), took {took:.1f} s{share}")


if __name__ == "__main__":
    main()
