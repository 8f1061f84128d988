"""A run that is killed outright leaves no orphan."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from llamacpp_pipeline.process.guard import Guard, listed
from llamacpp_pipeline.process.runner import LocalRunner
from tests.process.test_runner import HOSTILE, appears, gone, hostile

PARENT = """
import sys
from pathlib import Path
from llamacpp_pipeline.process.command import Command
from llamacpp_pipeline.process.runner import LocalRunner
folder = Path(sys.argv[1])
with LocalRunner() as runner:
    runner.run(Command(argv=tuple(sys.argv[2:]), cwd=folder, log=folder / "log"))
"""


def test_children_of_a_killed_run_die(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    child = (sys.executable, str(HOSTILE), "ignore_signals", str(ready))
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path), *child]) as parent:
        pid = int(appears(ready))
        family = psutil.Process(parent.pid).children(recursive=True)
        parent.send_signal(signal.SIGKILL)

    assert gone(pid)
    assert all(gone(process.pid) for process in family)  # the guard too


def test_a_grandchild_of_a_killed_run_dies(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, {str(HOSTILE)!r}, "ignore_signals", {str(ready)!r}])
time.sleep(600)
"""
    child = (sys.executable, "-c", code)
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path), *child]) as parent:
        pid = int(appears(ready))
        parent.send_signal(signal.SIGKILL)

    assert gone(pid)


def test_what_has_ended_is_not_listed() -> None:
    assert listed([b"+12\n", b"+13\n", b"-12\n"]) == {13}


def test_a_guard_that_was_ended_is_replaced() -> None:
    guard = Guard()
    first = guard._process.pid
    os.kill(first, signal.SIGKILL)
    assert gone(first)
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as child:
        guard.add(child.pid)
        guard.close()
        assert child.wait() == -signal.SIGKILL


def test_a_run_without_children_leaves_nothing(tmp_path: Path) -> None:
    before = set(psutil.Process().children())
    runner = LocalRunner()
    runner.run(hostile(tmp_path, "say", "hello"))
    assert set(psutil.Process().children()) - before  # the guard
    runner.close()
    assert not set(psutil.Process().children()) - before
