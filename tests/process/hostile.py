"""Children that misbehave, each named on the command line; a script for the tests beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

FOREVER = 600


def ignore_signals(ready: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    Path(ready).write_text(str(os.getpid()))
    time.sleep(FOREVER)


def wait(ready: str) -> None:
    Path(ready).write_text(str(os.getpid()))
    time.sleep(FOREVER)


def flood(megabytes: str) -> None:
    line = b"x" * 1023 + b"\n"
    for _ in range(int(megabytes) * 1024):
        os.write(1, line)
    os.write(2, b"the end\n")


def die(number: str) -> None:
    os.write(1, b"last words\n")
    os.kill(os.getpid(), int(number))


def half_character() -> None:
    os.write(1, b"KLD \xc2")
    time.sleep(0.3)
    os.write(1, b"\xb1 and a half \xe2\x82")


def grandchild(ready: str) -> None:
    """Leave a grandchild that holds the pipe open and ignores everything but KILL."""
    subprocess.Popen([sys.executable, __file__, "ignore_signals", ready])
    while not Path(ready).exists():
        time.sleep(0.01)


def say(*pieces: str) -> None:
    """Each piece in a write of its own."""
    for piece in pieces:
        os.write(1, piece.encode())
        time.sleep(0.2)


def environment() -> None:
    for name, value in sorted(os.environ.items()):
        sys.stdout.write(f"{name}={value}\n")


def both_streams() -> None:
    for number in range(5):
        os.write(1, f"out {number}\n".encode())
        os.write(2, f"err {number}\n".encode())


def work(seconds: str) -> None:
    """Burn CPU time in a child of this child, and hold some memory."""
    block = bytearray(80 << 20)
    code = (
        f"import time\nend = time.process_time() + {seconds}\nwhile time.process_time() < end: pass"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    sys.stdout.write(f"{len(block)}\n")


def read_input() -> None:
    sys.stdout.write(f"{sys.stdin.read()!r}\n")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
