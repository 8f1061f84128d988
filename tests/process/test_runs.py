"""Whole runs with real children: killed, interrupted, two at once, and on a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from llamacpp_pipeline.engine.store import Store
from tests.process.runs import chain, identified, run
from tests.process.test_runner import gone

RUNS = Path(__file__).with_name("runs.py")
ROOT = Path(__file__).resolve().parents[2]


def started(folder: Path, seconds: float, *devices: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(RUNS), str(folder), str(seconds), *devices],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def signed(diary: Path, name: str) -> int:
    """Wait until a child of that name has signed; returns its pid."""
    while True:
        lines = diary.read_text().splitlines() if diary.exists() else []
        for line in lines:
            if line.startswith(f"{name} "):
                return int(line.split()[1])
        time.sleep(0.01)


def test_a_run_killed_outright_leaves_nothing_visible_and_the_next_goes_on(
    tmp_path: Path,
) -> None:
    with started(tmp_path, 300) as process:
        child = signed(tmp_path / "diary", "second")
        process.kill()
        process.communicate()

    store = Store(tmp_path / "store")
    slow = identified(chain(tmp_path / "diary", seconds=300))
    assert gone(child)
    assert store.lookup(slow["first"]) is not None
    assert store.lookup(slow["second"]) is None
    assert not store.folder(slow["second"]).exists()
    assert store.staging(slow["second"]).exists()  # until the next run sweeps it

    report = run(chain(tmp_path / "diary"), store)
    assert [outcome.status for outcome in report.outcomes] == ["hit", "done"]
    assert list((store.root / "staging").iterdir()) == []
    assert list((store.root / "runs").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_run_ends_with_130_and_keeps_what_is_finished(
    tmp_path: Path, number: signal.Signals
) -> None:
    with started(tmp_path, 300) as process:
        child = signed(tmp_path / "diary", "second")
        process.send_signal(number)
        _, talk = process.communicate()

    assert process.returncode == 130
    assert "the run was interrupted" in talk
    assert "finished steps are kept" in talk
    assert gone(child)
    store = Store(tmp_path / "store")
    assert list((store.root / "staging").iterdir()) == []
    first = identified(chain(tmp_path / "diary", seconds=300))["first"]
    assert store.lookup(first) is not None


def test_of_two_runs_at_once_one_makes_and_the_other_takes(tmp_path: Path) -> None:
    with started(tmp_path, 1.5) as one:
        signed(tmp_path / "diary", "second")
        with started(tmp_path, 1.5) as two:
            first, _ = one.communicate()
            second, talk = two.communicate()

    assert (one.returncode, two.returncode) == (0, 0)
    assert first == "2 steps made, 0 taken from the store\n"
    assert second == "nothing to do: all 2 steps are in the store\n"
    assert "waiting: another run is making it" in talk
    names = [line.split()[0] for line in (tmp_path / "diary").read_text().splitlines()]
    assert names == ["first", "second"]


def test_the_run_that_waited_makes_what_the_other_could_not(tmp_path: Path) -> None:
    with started(tmp_path, 3) as one:
        signed(tmp_path / "diary", "second")
        with started(tmp_path, 3) as two:
            time.sleep(1)
            one.kill()
            one.communicate()
            second, _ = two.communicate()

    assert two.returncode == 0
    assert second == "1 steps made, 1 taken from the store\n"


def test_the_child_wrote_relative_names_only(tmp_path: Path) -> None:
    report = run(chain(tmp_path / "diary"), Store(tmp_path / "store"))
    entry = report.entries["second"]

    assert "inputs ['in/dough/bread.bin']" in (entry.folder / "log").read_text()
    assert entry.record.command[0] == "bake"
    assert entry.record.command[-2:] == ("bread.bin", "in/dough/bread.bin")
    assert entry.record.cpu_seconds > 0
    assert entry.record.peak_rss_bytes > 1 << 20


@contextmanager
def tiny_disk(folder: Path) -> Iterator[None]:
    """A file system of 2 MiB, where this process may mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_during_a_step_is_named(tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "disk"):
        store = Store(tmp_path / "disk" / "store")
        report = run(chain(tmp_path / "diary", megabytes=8), store)
        text = report.failures[0].report()

        assert report.outcomes[0].status == "done"
        assert report.failures[0].message == "second: the disk is full"
        assert "No space left on device" in text
        assert "free in" in text
        assert list((store.root / "staging").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_two_steps_at_once_are_both_stopped(tmp_path: Path, number: signal.Signals) -> None:
    with started(tmp_path, 300, "cpu0", "cpu1") as process:
        children = [signed(tmp_path / "diary", name) for name in ("second", "third")]
        process.send_signal(number)
        _, talk = process.communicate()

    assert process.returncode == 130
    assert "the run was interrupted" in talk
    assert all(gone(child) for child in children)
    store = Store(tmp_path / "store")
    assert list((store.root / "staging").iterdir()) == []
    assert list((store.root / "runs").iterdir()) == []


def test_two_steps_at_once_die_with_a_run_that_is_killed(tmp_path: Path) -> None:
    with started(tmp_path, 300, "cpu0", "cpu1") as process:
        children = [signed(tmp_path / "diary", name) for name in ("second", "third")]
        process.kill()
        process.communicate()

    assert all(gone(child) for child in children)


def test_one_that_waits_for_another_run_is_stopped_too(tmp_path: Path) -> None:
    with started(tmp_path, 300, "cpu0", "cpu1") as one:
        children = [signed(tmp_path / "diary", name) for name in ("second", "third")]
        with started(tmp_path, 300, "cpu0", "cpu1") as two:
            while two.stderr is not None and "waiting" not in two.stderr.readline():
                pass
            two.send_signal(signal.SIGTERM)
            two.communicate()
        assert two.returncode == 130
        assert not any(psutil.Process(child).status() == "zombie" for child in children)
        one.send_signal(signal.SIGTERM)
        one.communicate()

    assert one.returncode == 130
