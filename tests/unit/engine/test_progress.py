"""A run as a person sees it, on a terminal and in a file."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from llamacpp_pipeline.engine.events import (
    Begun,
    Done,
    Ended,
    Failed,
    Hit,
    Reporters,
    Retried,
    Silent,
    Skipped,
    Started,
    Waiting,
)
from llamacpp_pipeline.engine.execute import execute
from llamacpp_pipeline.engine.progress import Counter, Progress
from llamacpp_pipeline.errors import StepFailedError, UnreadableOutputError
from llamacpp_pipeline.results.record import StepRecord
from llamacpp_pipeline.stages.base import ProgressPattern
from tests.unit.engine.mill import FakeRunner, identified, plan, step, store_in, workshop

A = step("a")
SACKS = ProgressPattern(
    done=re.compile(r"\[(?P<n>\d+)\]"), total=re.compile(r"of (?P<n>\d+) sacks"), unit="sack"
)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def record(tmp_path: Path) -> StepRecord:
    report = execute(
        plan(A),
        fingerprints=identified(plan(A)),
        workshop=workshop(store_in(tmp_path), FakeRunner()),
        reporter=Silent(),
    )
    return report.records["a"]


def test_the_last_count_over_the_last_total(clock: Clock) -> None:
    counter = Counter(SACKS, clock=clock)
    assert counter.text() is None
    counter.feed("of 8 sacks\n[1]1.2,[2]1.3,")
    clock.now += 10
    counter.feed("[3]1.4,[4]1.5,")

    assert counter.text() == "4/8 sacks  50%  ETA 20s"


def test_a_search_before_the_counting_is_shown_in_percent(clock: Clock) -> None:
    pattern = replace(SACKS, before=re.compile(r"search (?P<n>\d+)"))
    counter = Counter(pattern, clock=clock)

    counter.feed("search 12.5 %")
    assert counter.text() == "searching  12%"
    counter.feed("[1] of 4 sacks")
    assert (counter.text() or "").startswith("1/4 sacks")


def test_a_count_split_by_a_read(clock: Clock) -> None:
    counter = Counter(SACKS, clock=clock)
    for piece in ("of 1", "6 sac", "ks [1", "2", "]"):
        counter.feed(piece)

    assert (counter.done, counter.total) == (12, 16)


def test_without_a_total_only_the_count_is_shown(clock: Clock) -> None:
    counter = Counter(ProgressPattern(done=SACKS.done, total=None, unit="sack"), clock=clock)
    counter.feed("[7]")

    assert counter.text() == "7 sacks"
    assert counter.remaining_seconds() is None


def test_plain_lines_are_few(clock: Clock) -> None:
    stream = io.StringIO()
    progress = Progress(stream, live=False, clock=clock)
    progress.tell(Begun(n_steps=12))
    progress.tell(Started(step=A, fingerprint="f"))
    watcher = progress.watch(A)
    for second in range(40):
        clock.now += 1
        watcher.output(f"of 99 [{second}]")
        watcher.heartbeat(cpu_seconds=1.5 * (second + 1), rss_bytes=3 << 30)

    lines = stream.getvalue().splitlines()
    assert lines[0] == "[ 1/12] a  started"
    assert len(lines) == 3
    assert lines[1] == "[ 1/12] a  15s  14/99 sacks  14%  ETA 1m25s  1.5 cores  3.0 GiB"


def test_a_live_line_is_drawn_over_itself(clock: Clock) -> None:
    stream = io.StringIO()
    progress = Progress(stream, live=True, clock=clock)
    progress.tell(Begun(n_steps=2))
    progress.tell(Started(step=A, fingerprint="f"))
    watcher = progress.watch(A)
    watcher.output("of 9 [1]")
    watcher.output("[2]")  # too soon to draw
    clock.now += 1
    watcher.output("[3]")

    assert "\n" not in stream.getvalue()
    assert stream.getvalue().split("\r\x1b[K")[1:] == [
        "[1/2] a  0.0s  1/9 sacks  11%",
        "[1/2] a  1.0s  3/9 sacks  33%  ETA 3.0s",
    ]


def test_a_silent_child_is_seen_to_live(clock: Clock) -> None:
    stream = io.StringIO()
    progress = Progress(stream, live=True, clock=clock)
    progress.tell(Begun(n_steps=2))
    watcher = progress.watch(A)
    clock.now += 90
    watcher.heartbeat(cpu_seconds=180.0, rss_bytes=2 << 30)

    assert stream.getvalue().endswith("[1/2] a  1m30s  2.0 cores  2.0 GiB  silent for 1m30s")


def test_a_line_for_each_end(clock: Clock, record: StepRecord) -> None:
    stream = io.StringIO()
    progress = Progress(stream, live=False, clock=clock)
    error = StepFailedError("a: it broke", evidence=("crack",), hint="mend it")
    lost = UnreadableOutputError("mill", "'result: ...'")
    lost.message = f"a: {lost.message}"
    for event in (
        Begun(n_steps=4),
        Hit(step=A, record=record),
        Waiting(step=A),
        Retried(step=A, error=lost),
        Done(step=A, record=record),
        Failed(step=A, error=error),
        Skipped(step=A, because="b"),
        Ended(seconds=1, child_seconds=1, interrupted=True),
    ):
        progress.tell(event)

    assert stream.getvalue().splitlines() == [
        "[1/4] a  in the store",
        "[2/4] a  waiting: another run is making it",
        "[2/4] a  mill ended without 'result: ...'; once more",
        "[2/4] a  done in 1.5s, peak memory 3.0 MiB",
        "[3/4] a  failed",
        "    a: it broke",
        "        crack",
        "      fix: mend it",
        "[4/4] a  skipped: b failed",
        "interrupted",
    ]


def test_listeners_hear_what_is_shown(clock: Clock) -> None:
    stream, other = io.StringIO(), io.StringIO()
    reporters = Reporters(
        Progress(stream, live=False, clock=clock), [Progress(other, live=False, clock=clock)]
    )
    reporters.tell(Begun(n_steps=1))
    reporters.tell(Started(step=A, fingerprint="f"))
    reporters.watch(A).output("of 5 [2]")

    assert stream.getvalue() == other.getvalue() == "[1/1] a  started\n"


def test_what_runs_at_once_stands_on_one_line_with_numbers_of_its_own(
    clock: Clock, record: StepRecord
) -> None:
    stream = io.StringIO()
    progress = Progress(stream, live=True, clock=clock)
    one, two = step("one"), step("two")
    progress.tell(Begun(n_steps=2))
    for each in (one, two):
        progress.tell(Started(step=each, fingerprint="f", device="cpu0"))
    first, second = progress.watch(one), progress.watch(two)
    clock.now += 3
    first.output("of 8 sacks [2]")
    clock.now += 1
    second.output("of 8 sacks [4]")

    last = stream.getvalue().rpartition("\x1b[K")[2]
    assert last.startswith("[1/2] one  4.0s")
    assert "  |  [2/2] two  4.0s" in last
    progress.tell(Done(step=two, record=record))
    assert "[2/2] two  done in" in stream.getvalue()
    clock.now += 1
    first.output("[3]")
    assert "two" not in stream.getvalue().rpartition("\x1b[K")[2]


def test_without_a_terminal_each_writes_its_own_lines(clock: Clock) -> None:
    stream = io.StringIO()
    progress = Progress(stream, live=False, clock=clock)
    progress.tell(Begun(n_steps=2))
    watchers = []
    for each in (step("one"), step("two")):
        progress.tell(Started(step=each, fingerprint="f"))
        watchers.append(progress.watch(each))
    clock.now += 16
    for watcher in watchers:
        watcher.output("[1]")
        watcher.output("[2]")

    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["[1/2] one  started", "[2/2] two  started"]
    assert [line[:9] for line in lines[2:]] == ["[1/2] one", "[2/2] two"]
