"""The two routes to the pinned source: git from GitHub, and a source distribution from PyPI.

Both leave the same tree, or nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from llamacpp_pipeline.errors import ToolchainError
from llamacpp_pipeline.process.command import Runner
from llamacpp_pipeline.process.environment import secrets_in
from llamacpp_pipeline.toolchain import upstream
from llamacpp_pipeline.toolchain.places import fresh, made
from llamacpp_pipeline.toolchain.programs import Answer, ask, on_path
from llamacpp_pipeline.toolchain.tree import manifest_of, require_same

HTTPS = 443
REACH_SECONDS = 5.0
PROXIES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
NETWORK_PREFIXES = ("PIP_", "GIT_SSL_", "SSL_CERT_", "REQUESTS_CA_", "CURL_CA_")
NETWORK_SUFFIXES = ("_PROXY", "_proxy")
STALLED = ("-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=20")
AS_IT_IS = (
    "-c",
    "core.autocrlf=false",
    "-c",
    "core.symlinks=true",
    "-c",
    "advice.detachedHead=false",
)
PASSWORD = re.compile(r"//[^/@\s:]*:(?P<password>[^/@\s]+)@")
EVIDENCE_LINES = 4


class Route(Protocol):
    """A way to the tree."""

    def __call__(self, tree: Path, *, runner: Runner) -> None:
        """Make `tree`, whole and checked, or raise ToolchainError and leave nothing."""


def from_git(tree: Path, *, runner: Runner) -> None:
    """That one commit, by `git fetch --depth 1`."""
    git = on_path(("git",))
    if git is None:
        raise ToolchainError("git is not installed", hint="apt-get install git")
    reachable(upstream.HOST)
    with _staged(tree) as staged:
        for arguments in (
            ("init", "--quiet"),
            (*STALLED, "fetch", "--quiet", "--depth", "1", upstream.URL, upstream.COMMIT),
            (*AS_IT_IS, "checkout", "--quiet", "FETCH_HEAD"),
        ):
            answer = ask(
                runner,
                (str(git), *arguments),
                cwd=staged,
                environment={**_network(), "GIT_TERMINAL_PROMPT": "0"},
                secrets=_secrets(),
            )
            _require_success(answer, "GitHub did not give llama.cpp")
        shutil.rmtree(staged / ".git")


def from_sdist(tree: Path, *, runner: Runner) -> None:
    """The tree that llama-cpp-python's source distribution carries, by `pip download`."""
    with _staged(tree) as staged, _scratch(tree) as scratch:
        requirements = scratch / "requirements.txt"
        requirements.write_text(
            f"{upstream.SDIST_PROJECT}=={upstream.SDIST_VERSION} "
            f"--hash=sha256:{upstream.SDIST_SHA256}\n",
            encoding="utf-8",
        )
        answer = ask(
            runner,
            (
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"),
                *("--disable-pip-version-check", "--no-binary", upstream.SDIST_PROJECT),
                *("--require-hashes", "--requirement", requirements.name, "--dest", "."),
            ),
            cwd=scratch,
            environment=_network(),
            secrets=_secrets(),
        )
        _require_success(answer, "PyPI did not give llama.cpp")
        extract(_archive(scratch), staged)


def extract(archive: Path, to: Path) -> None:
    """The files of the tree, and no others, out of the archive."""
    wanted = {upstream.SDIST_TREE + name: name for name in upstream.pinned().files}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = wanted.get(member.name)
                content = tar.extractfile(member) if name and member.isfile() else None
                if name and content:
                    made((to / name).parent)
                    with content, (to / name).open("wb") as file:
                        shutil.copyfileobj(content, file)
                    (to / name).chmod(0o755 if member.mode & 0o100 else 0o644)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ToolchainError(
            "the source distribution could not be unpacked", evidence=(str(error),)
        ) from error


def reachable(host: str) -> None:
    """Nothing, where a connection can be made. Behind a proxy, git itself finds out.

    Raises:
        ToolchainError: it cannot, within a few seconds.

    """
    if any(os.environ.get(name) for name in PROXIES):
        return
    try:
        socket.create_connection((host, HTTPS), timeout=REACH_SECONDS).close()
    except OSError as error:
        raise ToolchainError(f"{host} is out of reach", evidence=(str(error),)) from error


@contextlib.contextmanager
def _staged(tree: Path) -> Iterator[Path]:
    """A folder that becomes `tree` when it holds exactly the pinned files."""
    staged = fresh(tree.with_name(".staging"))
    try:
        yield staged
        require_same(
            upstream.pinned(),
            manifest_of(staged),
            what="what was fetched",
            hint="something between here and the source changes files: try another network",
        )
        staged.rename(tree)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


@contextlib.contextmanager
def _scratch(tree: Path) -> Iterator[Path]:
    """Beside the tree, not in the system's folder for temporary files, which may be small."""
    scratch = fresh(tree.with_name(".download"))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _archive(folder: Path) -> Path:
    found = sorted(folder.glob("*.tar.gz"))
    if len(found) != 1:
        raise ToolchainError(
            "pip ended well but left no source distribution",
            evidence=tuple(path.name for path in sorted(folder.iterdir())),
        )
    return found[0]


def _network() -> Mapping[str, str]:
    """How this user reaches the network: proxies, certificates, pip's own settings."""
    settings = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(NETWORK_PREFIXES) or name.endswith(NETWORK_SUFFIXES)
    }
    config = os.environ.get("XDG_CONFIG_HOME", str(Path.home() / ".config"))
    return {**settings, "XDG_CONFIG_HOME": config}


def _secrets() -> tuple[str, ...]:
    """Passwords in the settings, also those in the address of a package index."""
    settings = _network()
    found = (PASSWORD.findall(value) for value in settings.values())
    return (*secrets_in(settings), *(password for each in found for password in each))


def _require_success(answer: Answer, message: str) -> None:
    if answer.exit_code != 0:
        raise ToolchainError(message, evidence=answer.lines[-EVIDENCE_LINES:])
