"""Why a step failed, in words: signals, a full disk, and no room from the start."""

from __future__ import annotations

import errno
import signal
from pathlib import Path

import pytest

from llamacpp_pipeline.engine.execute import execute
from llamacpp_pipeline.engine.store import Store
from llamacpp_pipeline.errors import PipelineError
from tests.unit.engine.mill import (
    FakeRunner,
    Play,
    Recorder,
    identified,
    plan,
    step,
    store_in,
    workshop,
)

ONE = plan(step("a"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return store_in(tmp_path)


def failure(store: Store, *plays: Play, predicted: int | None = None) -> PipelineError:
    runner = FakeRunner(*plays)
    report = execute(
        ONE,
        fingerprints=identified(ONE),
        workshop=workshop(store, runner),
        reporter=Recorder(),
        predicted={} if predicted is None else {"a": predicted},
    )
    assert runner.queue == []
    return report.failures[0]


def test_sigkill_is_probably_memory(store: Store) -> None:
    error = failure(store, Play(exit_code=-signal.SIGKILL, log="loading\n"))

    assert error.message == "a: mill was killed by SIGKILL, probably because memory ran out"
    assert error.evidence == ("loading", "its peak memory was 3.0 MiB of the machine's 8.0 GiB")
    assert error.hint is not None
    assert "fewer layers on the GPU" in error.hint


def test_another_signal_is_named(store: Store) -> None:
    log = "grind.cpp:12: GGML_ASSERT(grain) failed\n"
    error = failure(store, Play(exit_code=-signal.SIGABRT, log=log))

    assert error.message == "a: mill was killed by SIGABRT"
    assert error.evidence[0] == "grind.cpp:12: GGML_ASSERT(grain) failed"


def test_an_illegal_instruction_asks_for_a_build(store: Store) -> None:
    error = failure(store, Play(exit_code=-signal.SIGILL, log=""))

    assert error.hint is not None
    assert "llamacpp-pipeline build" in error.hint
    assert error.evidence[0] == "it printed nothing"


@pytest.mark.parametrize(
    "log",
    [
        "gguf_write_to_file: failed to write: No space left on device",
        "basic_ios::clear: iostream error",
        "OSError: [Errno 28] No space left on device",
    ],
)
@pytest.mark.parametrize("exit_code", [0, 1])
def test_a_full_disk_is_recognised(store: Store, log: str, exit_code: int) -> None:
    error = failure(store, Play(log=log, exit_code=exit_code, files={}), predicted=1 << 20)

    assert error.message == "a: the disk is full"
    assert "about 1.0 MiB needed" in error.report()
    assert f"free in {store.root}" in error.report()
    assert "--store DIR" in error.report()
    assert error.exit_code == 1


def test_a_full_disk_under_our_own_files_is_told_alike(store: Store) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    error = failure(store, Play(error=full))

    assert error.message == "a: the disk is full"


def test_a_disk_that_cannot_be_written_is_told(store: Store) -> None:
    error = failure(store, Play(error=OSError(errno.EROFS, "Read-only file system")))

    assert error.message == "a: its files cannot be written"
    assert "Read-only file system" in error.report()


def test_what_cannot_fit_is_not_started(store: Store) -> None:
    report = execute(
        ONE,
        fingerprints=identified(ONE),
        workshop=workshop(store, runner := FakeRunner()),
        reporter=Recorder(),
        predicted={"a": 1 << 60},
    )
    assert runner.history == []
    assert report.failures[0].message == "a: what it writes does not fit on the disk"
    assert "TiB needed" in report.failures[0].report()
