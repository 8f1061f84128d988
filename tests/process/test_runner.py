"""The real runner against real children, most of them hostile."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from llamacpp_pipeline.errors import InterruptedRunError, StepFailedError
from llamacpp_pipeline.process.command import Command
from llamacpp_pipeline.process.runner import Grace, LocalRunner, logged_output

HOSTILE = Path(__file__).with_name("hostile.py")
QUICK = Grace(interrupt_seconds=0.3, terminate_seconds=0.3)


class Notes:
    """A watcher that keeps everything."""

    def __init__(self) -> None:
        self.text = ""
        self.beats: list[tuple[float, int]] = []

    def output(self, text: str) -> None:
        self.text += text

    def heartbeat(self, *, cpu_seconds: float, rss_bytes: int) -> None:
        self.beats.append((cpu_seconds, rss_bytes))


@pytest.fixture
def runner() -> Iterator[LocalRunner]:
    with LocalRunner(grace=QUICK) as runner:
        yield runner


def hostile(folder: Path, *arguments: str, secrets: tuple[str, ...] = ()) -> Command:
    argv = (sys.executable, str(HOSTILE), *arguments)
    return Command(argv=argv, cwd=folder, log=folder / "log", secrets=secrets)


def appears(path: Path) -> str:
    while not (path.exists() and path.read_text()):
        time.sleep(0.01)
    return path.read_text()


def gone(pid: int) -> bool:
    for _ in range(500):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


def interrupt_when(path: Path, *, times: int = 1) -> threading.Thread:
    def interrupt() -> None:
        appears(path)
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)

    thread = threading.Thread(target=interrupt)
    thread.start()
    return thread


def test_both_streams_land_in_the_log_in_the_order_written(
    runner: LocalRunner, tmp_path: Path
) -> None:
    notes = Notes()
    outcome = runner.run(hostile(tmp_path, "both_streams"), notes)

    expected = "".join(f"out {n}\nerr {n}\n" for n in range(5))
    assert outcome.exit_code == 0
    assert notes.text == expected
    assert logged_output(tmp_path / "log") == expected


def test_the_command_stands_above_the_output(runner: LocalRunner, tmp_path: Path) -> None:
    runner.run(hostile(tmp_path, "say", "two words"))

    first = (tmp_path / "log").read_text().splitlines()[0]
    assert first.startswith("$ ")
    assert first.endswith("hostile.py say 'two words'")


def test_a_flood_is_kept_whole(runner: LocalRunner, tmp_path: Path) -> None:
    outcome = runner.run(hostile(tmp_path, "flood", "5"), Notes())

    assert outcome.exit_code == 0
    assert len(logged_output(tmp_path / "log")) == 5 * 1024 * 1024 + len("the end\n")


def test_half_a_character_is_put_together_or_marked(runner: LocalRunner, tmp_path: Path) -> None:
    notes = Notes()
    runner.run(hostile(tmp_path, "half_character"), notes)

    assert notes.text == "KLD \u00b1 and a half \ufffd"
    assert (tmp_path / "log").read_bytes().endswith(b"KLD \xc2\xb1 and a half \xe2\x82")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_death_by_signal_is_a_negative_exit_code(
    runner: LocalRunner, tmp_path: Path, number: signal.Signals
) -> None:
    outcome = runner.run(hostile(tmp_path, "die", str(int(number))))

    assert outcome.exit_code == -number
    assert "last words" in logged_output(tmp_path / "log")


def test_an_exit_code_is_passed_on(runner: LocalRunner, tmp_path: Path) -> None:
    argv = (sys.executable, "-c", "raise SystemExit(7)")
    assert runner.run(Command(argv=argv, cwd=tmp_path, log=tmp_path / "log")).exit_code == 7


def test_a_grandchild_left_behind_dies_and_its_pipe_is_not_waited_for(
    runner: LocalRunner, tmp_path: Path
) -> None:
    outcome = runner.run(hostile(tmp_path, "grandchild", str(tmp_path / "ready")))

    assert outcome.exit_code == 0
    assert gone(int(appears(tmp_path / "ready")))


def test_a_child_that_ignores_int_and_term_is_killed(runner: LocalRunner, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    thread = interrupt_when(ready)

    with pytest.raises(InterruptedRunError, match="was interrupted"):
        runner.run(hostile(tmp_path, "ignore_signals", str(ready)))
    thread.join()
    assert gone(int(ready.read_text()))


def test_a_second_interrupt_does_not_wait(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    patient = Grace(interrupt_seconds=300, terminate_seconds=300)
    thread = interrupt_when(ready, times=3)

    with LocalRunner(grace=patient) as runner, pytest.raises(InterruptedRunError):
        runner.run(hostile(tmp_path, "ignore_signals", str(ready)))
    thread.join()
    assert gone(int(ready.read_text()))


def test_an_interrupted_child_may_end_by_itself(runner: LocalRunner, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    thread = interrupt_when(ready)

    with pytest.raises(InterruptedRunError):
        runner.run(hostile(tmp_path, "wait", str(ready)))
    thread.join()
    assert "KeyboardInterrupt" in logged_output(tmp_path / "log")


def test_a_missing_program_says_what_to_do(runner: LocalRunner, tmp_path: Path) -> None:
    command = Command(argv=("llama-nothing",), cwd=tmp_path, log=tmp_path / "log")

    with pytest.raises(StepFailedError, match="llama-nothing could not be started") as caught:
        runner.run(command)
    assert "doctor" in caught.value.report()
    assert "No such file" in caught.value.report()


def test_a_file_that_is_no_program_is_told(runner: LocalRunner, tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("garbage")
    command = Command(argv=(str(tmp_path / "tool"),), cwd=tmp_path, log=tmp_path / "log")

    with pytest.raises(StepFailedError, match="tool could not be started"):
        runner.run(command)


def test_a_secret_split_across_reads_is_in_no_log(runner: LocalRunner, tmp_path: Path) -> None:
    notes = Notes()
    pieces = ("token hf_ab", "cdefgh, token hf_", "abc")
    command = hostile(tmp_path, "say", *pieces, secrets=("hf_abcdefgh",))
    runner.run(command, notes)

    assert notes.text == "token ***, token hf_abc"
    assert logged_output(tmp_path / "log") == notes.text


def test_a_secret_in_the_command_is_not_shown(runner: LocalRunner, tmp_path: Path) -> None:
    runner.run(hostile(tmp_path, "say", "hf_secret", secrets=("hf_secret",)))

    assert "hf_secret" not in (tmp_path / "log").read_text()


def test_the_users_llama_variables_do_not_reach_a_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_ARG_CTX_SIZE", "64")
    monkeypatch.setenv("GGML_CUDA_ENABLE_UNIFIED_MEMORY", "1")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "mine"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    notes = Notes()
    with LocalRunner() as runner:
        runner.run(hostile(tmp_path, "environment"), notes)
        seen = dict(line.split("=", 1) for line in notes.text.splitlines())
        assert list(Path(seen["XDG_CONFIG_HOME"]).iterdir()) == []

    assert not [name for name in seen if name.startswith(("LLAMA_ARG_", "GGML_"))]
    assert seen["XDG_CONFIG_HOME"] != str(tmp_path / "mine")
    assert seen["CUDA_VISIBLE_DEVICES"] == "1"
    assert not Path(seen["XDG_CONFIG_HOME"]).exists()


def test_a_declared_variable_reaches_the_child(runner: LocalRunner, tmp_path: Path) -> None:
    notes = Notes()
    argv = (sys.executable, str(HOSTILE), "environment")
    declared = {"LLAMA_ARG_THREADS": "3"}
    command = Command(argv=argv, cwd=tmp_path, log=tmp_path / "log", environment=declared)
    runner.run(command, notes)

    assert "LLAMA_ARG_THREADS=3" in notes.text.splitlines()


def test_input_is_empty(runner: LocalRunner, tmp_path: Path) -> None:
    runner.run(hostile(tmp_path, "read_input"))

    assert logged_output(tmp_path / "log") == "''\n"


def test_cpu_time_and_memory_are_those_of_the_whole_family(
    runner: LocalRunner, tmp_path: Path
) -> None:
    notes = Notes()
    outcome = runner.run(hostile(tmp_path, "work", "0.5"), notes)

    assert outcome.exit_code == 0
    assert outcome.cpu_seconds >= 0.5
    assert outcome.seconds >= 0.5
    assert outcome.peak_rss_bytes >= 80 << 20
    assert any(rss > 0 for _, rss in notes.beats)


def test_a_short_child_has_vital_signs_too(runner: LocalRunner, tmp_path: Path) -> None:
    outcome = runner.run(Command(argv=("true",), cwd=tmp_path, log=tmp_path / "log"))

    assert outcome.cpu_seconds > 0
    assert outcome.peak_rss_bytes > 0


def test_a_watcher_that_fails_stops_the_child_and_is_heard(
    runner: LocalRunner, tmp_path: Path
) -> None:
    class Broken(Notes):
        def output(self, text: str) -> None:
            raise ValueError(text)

    with pytest.raises(ValueError, match="first"):
        runner.run(hostile(tmp_path, "say", "first", "second", "third"), Broken())


def test_a_full_disk_under_the_log_is_an_os_error(runner: LocalRunner, tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    argv = (sys.executable, str(HOSTILE), "say", "a")

    with pytest.raises(OSError, match="No space left"):
        runner.run(Command(argv=argv, cwd=tmp_path, log=full))


def test_an_interrupt_during_the_start_is_not_lost(tmp_path: Path) -> None:
    """A signal that arrives while the child is being started stops it right after."""
    ready = tmp_path / "ready"
    before = set(psutil.Process().children())
    with LocalRunner(grace=QUICK) as runner:
        runner.run(Command(argv=("true",), cwd=tmp_path, log=tmp_path / "log"))
        guard = runner._guard
        assert guard is not None
        add = guard.add

        def interrupted_add(group: int) -> None:
            add(group)
            os.kill(os.getpid(), signal.SIGINT)

        guard.add = interrupted_add  # type: ignore[method-assign]
        with pytest.raises(InterruptedRunError):
            runner.run(hostile(tmp_path, "wait", str(ready)))
    assert not set(psutil.Process().children()) - before


def test_children_of_several_threads_are_ended_by_stop_and_no_other_starts(tmp_path: Path) -> None:
    stop = threading.Event()
    errors: list[InterruptedRunError] = []

    def work(runner: LocalRunner, folder: Path) -> None:
        try:
            runner.run(hostile(folder, "ignore_signals", str(folder / "pid")))
        except InterruptedRunError as error:
            errors.append(error)

    folders = [tmp_path / name for name in ("one", "two")]
    with LocalRunner(grace=QUICK, stop=stop) as runner:
        threads = []
        for folder in folders:
            folder.mkdir()
            threads.append(threading.Thread(target=work, args=(runner, folder)))
            threads[-1].start()
        pids = [int(appears(folder / "pid")) for folder in folders]
        stop.set()
        for thread in threads:
            thread.join()

        assert len(errors) == 2
        assert all(gone(pid) for pid in pids)
        with pytest.raises(InterruptedRunError, match="was not started any more"):
            runner.run(hostile(tmp_path, "ignore_signals", str(tmp_path / "pid")))
