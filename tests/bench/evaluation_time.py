"""Where the time of the demo's evaluation goes: a run from an empty store, by kind of step.

    .venv/bin/python tests/bench/evaluation_time.py [--devices cpu0,cpu1] [--config FILE]
    .venv/bin/python tests/bench/evaluation_time.py --results FOLDER

With --results it reads a run that is over, and runs nothing. The build must be there
(`make build`). For each kind of step: how many were made, their wall time together, their share
of the run, the processor time per second of wall time, and the tokens of text per second.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llamacpp_pipeline.engine.journal import NAME, overhead, read_journal

PROGRAM = Path(sys.executable).parent / "llamacpp-pipeline"
EVALUATION = ("reference", "kld", "tasks", "bench")


@dataclass(frozen=True, kw_only=True)
class Made:
    """A step that the run made."""

    key: str
    seconds: float
    cpu_seconds: float

    @property
    def kind(self) -> str:
        """What its key begins with."""
        return self.key.partition("/")[0]


def run(folder: Path, *, config: str | None, devices: str | None) -> Path:
    """The result folder of a run from an empty store."""
    out = folder / "out"
    command: list[str | Path] = [PROGRAM, "run", "--store", folder / "store", "--out", out]
    command += ["--config", config] if config else []
    if devices:
        command += ["--set", f"placement.devices=[{devices}]"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return out


def made(out: Path) -> list[Made]:
    """The steps that the run made, as its journal has them."""
    return [
        Made(key=line["step"], seconds=line["seconds"], cpu_seconds=line["cpu_seconds"])
        for line in read_journal(out / NAME)
        if line["event"] == "done"
    ]


def tokens_of(out: Path, steps: Iterable[Made]) -> dict[str, int]:
    """Tokens of text that the steps of each kind computed; kinds without text are not there."""
    document: Any = json.loads((out / "results.json").read_text(encoding="utf-8"))
    evaluated = document["conditions"]["n_ctx"] * document["conditions"]["n_chunks"]
    calibration = document["conditions"]["calibration"] or {}
    read = (calibration.get("n_ctx") or 0) * (calibration.get("n_chunks") or 0)
    each = {"reference": evaluated, "kld": evaluated, "imatrix": read}
    found: dict[str, int] = defaultdict(int)
    for step in steps:
        if each.get(step.kind):
            found[step.kind] += each[step.kind]
    return found


def table(steps: Sequence[Made], tokens: dict[str, int], *, wall: float) -> Iterable[str]:
    """One line for each kind, the longest first, and the sums."""
    yield f"{'':14} {'steps':>5} {'seconds':>8} {'share':>6} {'cores':>5} {'tokens/s':>9}"
    kinds = sorted(
        {step.kind for step in steps},
        key=lambda kind: -sum(step.seconds for step in steps if step.kind == kind),
    )
    for kind in kinds:
        mine = [step for step in steps if step.kind == kind]
        seconds = sum(step.seconds for step in mine)
        cores = sum(step.cpu_seconds for step in mine) / seconds if seconds else 0.0
        speed = f"{tokens[kind] / seconds:9.0f}" if kind in tokens and seconds else f"{'':9}"
        yield f"{kind:14} {len(mine):5} {seconds:8.1f} {seconds / wall:6.1%} {cores:5.2f} {speed}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, help="the result folder of a run that is over")
    parser.add_argument("--config", help="a YAML file; default: the demo's")
    parser.add_argument("--devices", help="devices that measure at once, by commas: cpu0,cpu1")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = asked.results or run(Path(folder), config=asked.config, devices=asked.devices)
        steps, cost = made(out), overhead(out / NAME)
        tokens = tokens_of(out, steps)
    evaluation = [step for step in steps if step.kind in EVALUATION]
    measured = sum(step.seconds for step in evaluation)
    every = sum(step.seconds for step in steps)
    print("\n".join(table(steps, tokens, wall=cost.wall_seconds)))
    print(f"\nwhole run: {cost.wall_seconds:.1f} s wall; own cost {cost.own_seconds:.2f} s")
    print(f"evaluation ({', '.join(EVALUATION)}): {measured:.1f} s of {every:.1f} s in children")
    if cost.child_seconds:
        print(f"steps at once, on average: {every / cost.child_seconds:.2f}")


if __name__ == "__main__":
    main()
