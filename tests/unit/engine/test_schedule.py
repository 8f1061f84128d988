"""Several steps at once: what runs beside what, failures, interrupts, the same result."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from llamacpp_pipeline.engine.choice import EVERYTHING
from llamacpp_pipeline.engine.devices import Device, Devices
from llamacpp_pipeline.engine.execute import RunReport, execute
from llamacpp_pipeline.engine.store import Store
from llamacpp_pipeline.errors import InterruptedRunError
from llamacpp_pipeline.plan.step import Plan
from llamacpp_pipeline.process.command import Command, Outcome, Watcher
from tests.unit.engine.mill import (
    GRIND,
    FakeRunner,
    Play,
    Recorder,
    flour_of,
    identified,
    plan,
    step,
    store_in,
    workshop,
)

TWO = Devices(each=(Device(name="cpu0", n_threads=1), Device(name="cpu1", n_threads=1)))
MEASURE = replace(GRIND, lane="device", placement=lambda p: ("--threads", str(p.n_threads)))
BENCH = replace(GRIND, lane="alone", machine_bound=True)


@dataclass
class Crowd(FakeRunner):
    """Runs plays of a given length and notes who ran beside whom."""

    seconds: float = 0.15
    fails: tuple[str, ...] = ()
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__()
        self.present: set[str] = set()
        self.beside: set[frozenset[str]] = set()
        self.commands: dict[str, Command] = {}

    def run(self, command: Command, watcher: Watcher | None = None) -> Outcome:
        name = command.argv[2]
        self.commands[name] = command
        with self.there(name):
            if self.stop.wait(self.seconds):
                raise InterruptedRunError(f"{name} was interrupted")
        bad = Play(exit_code=1, log="error: stuck\n")
        return FakeRunner(*([bad] if name in self.fails else [])).run(command, watcher)

    @contextmanager
    def there(self, name: str) -> Iterator[None]:
        self.present.add(name)
        self.beside.add(frozenset(self.present))
        try:
            yield
        finally:
            self.present.remove(name)


def four() -> Plan:
    """One step first, then four measurements and a bench."""
    return plan(
        step("a", fineness=1),
        *(step(f"m{at}", stage=MEASURE, fineness=10 + at, grain=flour_of("a")) for at in range(4)),
        step("bench", stage=BENCH, fineness=99, grain=flour_of("a")),
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return store_in(tmp_path)


def run(
    store: Store, runner: Crowd, given: Plan | None = None, recorder: Recorder | None = None
) -> RunReport:
    given = given or four()
    return execute(
        given,
        fingerprints=identified(given),
        workshop=replace(workshop(store, runner), devices=TWO, stop=runner.stop),
        reporter=recorder or Recorder(),
        choice=EVERYTHING,
    )


def test_measurements_run_two_at_a_time_and_bench_alone(store: Store) -> None:
    runner = Crowd()
    report = run(store, runner)

    assert [outcome.key for outcome in report.outcomes] == ["a", "m0", "m1", "m2", "m3", "bench"]
    assert report.count("done") == 6
    assert frozenset({"10", "11"}) in runner.beside
    assert max(map(len, runner.beside)) == 2
    assert all(len(group) == 1 for group in runner.beside if group & {"1", "99"})


def test_each_has_its_share_of_the_threads_and_the_record_says_so(store: Store) -> None:
    runner = Crowd()
    report = run(store, runner)

    assert runner.commands["10"].argv[-2:] == ("--threads", "1")
    assert report.records["m0"].placement.n_threads == 1
    assert report.records["bench"].placement.n_threads is None


def test_a_gpu_is_told_by_the_environment(store: Store) -> None:
    runner = Crowd(seconds=0.01)
    gpu = Devices(each=(Device(name="0", environment={"CUDA_VISIBLE_DEVICES": "0"}),))
    given = four()
    execute(
        given,
        fingerprints=identified(given),
        workshop=replace(workshop(store, runner), devices=gpu),
        reporter=Recorder(),
    )
    assert runner.commands["10"].environment == {"CUDA_VISIBLE_DEVICES": "0"}
    assert runner.commands["99"].environment == {}


def test_the_fingerprints_and_results_are_those_of_a_run_without_devices(store: Store) -> None:
    run(store, Crowd(seconds=0.01))
    given = four()
    alone = execute(
        given,
        fingerprints=identified(given),
        workshop=workshop(store, FakeRunner()),
        reporter=Recorder(),
    )
    assert alone.summary() == "nothing to do: all 6 steps are in the store"


def test_the_wall_time_of_children_counts_once_what_ran_beside_each_other(store: Store) -> None:
    report = run(store, Crowd(seconds=0.1))
    assert report.child_seconds <= report.seconds


def test_a_failure_skips_what_needs_it_and_the_others_go_on(store: Store) -> None:
    given = plan(*four().steps, step("lost", stage=MEASURE, fineness=50, grain=flour_of("m0")))
    report = run(store, Crowd(fails=("10",)), given)

    status = {outcome.key: outcome.status for outcome in report.outcomes}
    assert status == {
        "a": "done", "m0": "failed", "m1": "done", "m2": "done", "m3": "done",
        "bench": "done", "lost": "skipped",
    }  # fmt: skip
    assert report.exit_code == 1


def test_two_steps_that_are_one_are_made_once(store: Store) -> None:
    given = plan(*(step(f"m{at}", stage=MEASURE, fineness=7) for at in range(2)))
    report = run(store, Crowd(), given)

    assert [outcome.status for outcome in report.outcomes] == ["done", "hit"]


def test_an_interrupt_stops_all_and_keeps_what_is_finished(store: Store) -> None:
    runner = Crowd(seconds=0.1)

    def interrupt() -> None:
        while len(runner.present) < 2:
            time.sleep(0.005)
        runner.seconds = 60
        time.sleep(0.3)  # those that ran are over; two others run now
        os.kill(os.getpid(), signal.SIGINT)

    helper = threading.Thread(target=interrupt)
    helper.start()
    recorder = Recorder()
    started = time.monotonic()
    with pytest.raises(InterruptedRunError, match="the run was interrupted"):
        run(store, runner, recorder=recorder)
    helper.join()

    assert time.monotonic() - started < 10
    assert runner.present == set()
    assert recorder.kinds()[-1] == "Ended"
    assert list((store.root / "staging").iterdir()) == []
    assert list((store.root / "runs").iterdir()) == []
    report = run(store, Crowd(seconds=0.01))
    assert report.count("hit") == 3
    assert report.count("done") == 3


def test_a_bug_in_one_thread_stops_the_others_and_is_seen(store: Store) -> None:
    def broken(log: str, paths: object) -> None:
        raise ZeroDivisionError(log + str(paths))

    given = plan(
        step("m0", stage=replace(MEASURE, parse=broken), fineness=1),  # type: ignore[arg-type]
        step("m1", stage=MEASURE, fineness=2),
    )
    runner = Crowd(seconds=0.05)
    with pytest.raises(ZeroDivisionError):
        run(store, runner, given)
    assert runner.stop.is_set()
