"""What the pipeline itself costs: a run of the demo from an empty store, then a run of all hits.

    .venv/bin/python tests/bench/pipeline_cost.py [--store DIR]

Prints the share of the wall time that was not spent in child processes, and the wall time of the
second run. The build must be there (`make build`): it is not part of either figure.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from llamacpp_pipeline.engine.journal import NAME, overhead

LIMIT_SHARE = 0.03
LIMIT_SECONDS = 2.0
PROGRAM = Path(sys.executable).parent / "llamacpp-pipeline"


def timed_run(store: Path, out: Path) -> float:
    """Wall seconds of one run of the demo, from the program's start to its end."""
    started = time.perf_counter()
    command: list[str | Path] = [PROGRAM, "run", "--store", store, "--out", out]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, help="an empty folder; default: a temporary one")
    with tempfile.TemporaryDirectory() as folder:
        store = parser.parse_args().store or Path(folder) / "store"
        out = Path(folder) / "out"
        timed_run(store, out)
        cost = overhead(out / NAME)
        seconds = timed_run(store, out)
    print(f"whole run: {cost.wall_seconds:.1f} s wall, {cost.child_seconds:.1f} s in children")
    print(f"own cost: {cost.own_seconds:.2f} s, {cost.share:.2%} (limit {LIMIT_SHARE:.0%})")
    print(f"run of all hits: {seconds:.2f} s (limit {LIMIT_SECONDS:.0f} s)")


if __name__ == "__main__":
    main()
