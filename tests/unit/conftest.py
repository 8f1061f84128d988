"""The unit ring starts no process, opens no socket and writes nothing outside tmp_path."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest


def refuse(what: str) -> NoReturn:
    message = f"the unit ring must not {what}: use tests/process or tests/tools"
    raise AssertionError(message)


@pytest.fixture(autouse=True)
def closed_doors(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[None]:
    before = environment()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("LLAMACPP_PIPELINE_STORE", "LLAMACPP_PIPELINE_BUILDS", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    if "local_server" not in request.fixturenames:
        monkeypatch.setattr(socket.socket, "connect", lambda *_: refuse("open a socket"))
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: refuse("start a process"))
    yield
    monkeypatch.undo()  # the test's own changes too, so that only leaks remain
    assert environment() == before, "os.environ must end as it began"


def environment() -> dict[str, str]:
    """The environment, less what pytest itself changes between set-up and tear-down."""
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
