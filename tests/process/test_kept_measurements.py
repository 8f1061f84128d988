"""A probe ended by a signal, whichever, goes on from what it has measured."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.process.probe_runs import GOOD, N_BEFORE, run
from tests.unit.stages.makers import write_gguf

RUNS = Path(__file__).with_name("probe_runs.py")
ROOT = Path(__file__).resolve().parents[2]
ENDED = {signal.SIGINT: 130, signal.SIGTERM: 130, signal.SIGKILL: -signal.SIGKILL}


def kept(folder: Path) -> list[str]:
    return [
        line
        for file in (folder / "store" / "shared").glob("*/*.jsonl")
        for line in file.read_text().split("\n")[:-1]
    ]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("number", ENDED)
def test_a_probe_that_was_ended_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    write_gguf(tmp_path / "model.gguf")
    (tmp_path / "text.txt").write_text("text")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, RUNS, tmp_path], env=environment) as process:
        while len(kept(tmp_path)) < N_BEFORE and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(number)
    assert process.returncode == ENDED[number]
    whole = GOOD.read_text().splitlines()
    assert kept(tmp_path) == whole[:N_BEFORE]

    (tmp_path / "go_on").touch()
    report = run(tmp_path)

    assert report.exit_code == 0
    entry = report.entries["probe"]
    assert entry.path("measurements").read_text().splitlines() == whole
    reused = f"probe: {len(whole)} measurements, {N_BEFORE} of them reused"
    assert reused in (entry.folder / "log").read_text()
