"""LocalRunner: the one place where the pipeline's child processes start and end."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

from llamacpp_pipeline.errors import InterruptedRunError, StepFailedError
from llamacpp_pipeline.process.command import Command, Outcome, Watcher
from llamacpp_pipeline.process.environment import child_environment
from llamacpp_pipeline.process.guard import Guard
from llamacpp_pipeline.process.pump import Pump
from llamacpp_pipeline.process.redact import redact
from llamacpp_pipeline.process.signals import HeldSignals
from llamacpp_pipeline.process.vitals import Vitals

FIRST_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.5)  # a short child is looked at too
PAUSE_SECONDS = 1.0
PROMPT = "$ "


@dataclass(frozen=True, kw_only=True)
class Grace:
    """How long a child may take to end: after SIGINT, then after SIGTERM; then SIGKILL."""

    interrupt_seconds: float = 5.0
    terminate_seconds: float = 5.0


@final
class LocalRunner:
    """Runs commands on this machine, one at a time in each thread.

    Signals reach the main thread only. Where `stop` is set, the children of all threads are ended
    as by Ctrl-C, and no other is started.
    """

    def __init__(
        self,
        *,
        grace: Grace | None = None,
        environ: Mapping[str, str] | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self._grace = grace or Grace()
        self._stop = stop or threading.Event()
        self._preparing = threading.Lock()
        self._environ = environ
        self._guard: Guard | None = None
        self._stack = contextlib.ExitStack()
        self._config_home: Path | None = None
        self.close = weakref.finalize(self, self._stack.close)

    def __enter__(self) -> LocalRunner:
        return self

    def __exit__(self, *ended: object) -> None:
        self.close()

    def run(self, command: Command, watcher: Watcher | None = None) -> Outcome:
        """Run `command` to its end.

        Raises:
            StepFailedError: it could not be started.
            InterruptedRunError: Ctrl-C, SIGTERM or `stop`; the child and its group have ended.

        """
        if self._stop.is_set():
            raise InterruptedRunError(f"{Path(command.argv[0]).name} was not started any more")
        guard, environment = self._prepare(command)
        held = HeldSignals()
        started = time.monotonic()
        with contextlib.ExitStack() as stack:
            stack.callback(held.release)
            held.hold()
            child = stack.enter_context(_attended(command, environment, guard, watcher))
            try:
                held.release()
                child.wait(self._stop)
            except KeyboardInterrupt:
                child.stop(self._grace)
                raise InterruptedRunError(_interrupted(command), log=command.log) from None
        return child.outcome(time.monotonic() - started)

    def _prepare(self, command: Command) -> tuple[Guard, dict[str, str]]:
        guard, home = self._surroundings()
        inherited = os.environ if self._environ is None else self._environ
        return guard, child_environment(inherited, declared=command.environment, config_home=home)

    def _surroundings(self) -> tuple[Guard, Path]:
        with self._preparing:
            if self._guard is None or self._config_home is None:
                home = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="no-config-"))
                self._config_home = Path(home)
                self._guard = Guard()
                self._stack.callback(self._guard.close)
            return self._guard, self._config_home


def command_line(command: Command) -> str:
    """The command as a person would type it, without secrets."""
    return redact(shlex.join(command.argv), command.secrets)


def logged_output(log: Path) -> str:
    """What a child wrote, without the command line that the runner put above it."""
    first, _, rest = log.read_bytes().decode("utf-8", errors="replace").partition("\n")
    return rest if first.startswith(PROMPT) else f"{first}\n{rest}"


class _Child:
    """One running process, its output and its vital signs."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        command: Command,
        pump: Pump,
        watcher: Watcher | None,
    ) -> None:
        self.pid = process.pid
        self._process = process
        self._command = command
        self._pump = pump
        self._watcher = watcher
        self._vitals = Vitals(process.pid)
        self._ended = threading.Event()
        self._waiter = threading.Thread(target=self._reap, daemon=True)
        self._waiter.start()

    def wait(self, stop: threading.Event) -> None:
        """Until it ends, with a look at it about once a second.

        Raises:
            KeyboardInterrupt: `stop` was set.

        """
        for pause in _pauses():
            if self._ended.wait(pause):
                return
            if stop.is_set():
                raise KeyboardInterrupt
            if self._pump.failure is not None:
                self.kill_group()
                self._ended.wait()
                return
            self._vitals.sample()
            self._tell_watcher()

    def stop(self, grace: Grace) -> None:
        """INT, TERM, KILL, each after its wait; one more Ctrl-C goes to the next at once."""
        waits = (
            (signal.SIGINT, grace.interrupt_seconds),
            (signal.SIGTERM, grace.terminate_seconds),
        )
        for number, seconds in waits:
            self._signal(number)
            with contextlib.suppress(KeyboardInterrupt):
                if self._ended.wait(seconds):
                    break
        self.kill_group()
        self._ended.wait()

    def kill_group(self) -> None:
        """End the child, where it still runs, and whatever it started and left behind."""
        self._signal(signal.SIGKILL)

    def finish(self) -> None:
        """Read the rest of its output.

        Raises:
            OSError: the log could not be written (disk full).

        """
        self._waiter.join()
        self._pump.finish()
        if self._pump.failure is not None:
            raise self._pump.failure

    def outcome(self, seconds: float) -> Outcome:
        """What came of it."""
        return Outcome(
            command=self._command,
            exit_code=self._process.returncode,
            seconds=seconds,
            cpu_seconds=self._vitals.cpu_seconds,
            peak_rss_bytes=self._vitals.peak_rss_bytes,
        )

    def _reap(self) -> None:
        _, status, usage = os.wait4(self.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self._vitals.settle(usage)
        self._ended.set()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _tell_watcher(self) -> None:
        if self._watcher is not None and not self._ended.is_set():
            vitals = self._vitals
            with self._pump.lock:
                self._watcher.heartbeat(cpu_seconds=vitals.cpu_seconds, rss_bytes=vitals.rss_bytes)


@contextlib.contextmanager
def _attended(
    command: Command, environment: Mapping[str, str], guard: Guard, watcher: Watcher | None
) -> Iterator[_Child]:
    """From its start to its end: guarded, drained, and nothing left of its group."""
    command.log.parent.mkdir(parents=True, exist_ok=True)
    with command.log.open("wb", buffering=0) as log:
        log.write(f"{PROMPT}{command_line(command)}\n".encode())
        process = _popen(command, environment)
        guard.add(process.pid)
        with contextlib.closing(process.stdout or log) as pipe:
            child = _Child(process, command, Pump(pipe.fileno(), log, command, watcher), watcher)
            try:
                yield child
            finally:
                child.kill_group()
                guard.remove(process.pid)
                child.finish()


def _popen(command: Command, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command.argv,
            cwd=command.cwd,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise StepFailedError(
            f"{Path(command.argv[0]).name} could not be started",
            evidence=(redact(str(error), command.secrets),),
            log=command.log,
            hint="run `llamacpp-pipeline doctor`: it says what is missing on this machine",
        ) from error


def _pauses() -> Iterator[float]:
    yield from FIRST_PAUSES
    while True:
        yield PAUSE_SECONDS


def _interrupted(command: Command) -> str:
    return f"{Path(command.argv[0]).name} was interrupted and has been stopped"
