"""Rings: unit and process always; tools, network and gpu when asked for."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from llamacpp_pipeline.config.schema import ToolchainConfig
from llamacpp_pipeline.toolchain.binaries import Toolchain, describe

ROOT = Path(__file__).resolve().parents[1]
RINGS = ("tools", "network", "gpu")


def pytest_addoption(parser: pytest.Parser) -> None:
    for ring in RINGS:
        parser.addoption(f"--run-{ring}", action="store_true", help=f"run the tests marked {ring}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for ring in RINGS:
        if config.getoption(f"--run-{ring}"):
            continue
        skip = pytest.mark.skip(reason=f"opt in with --run-{ring}")
        for item in items:
            if ring in item.keywords:
                item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Started by `nohup` or in the background, this process ignores signals, and so would children.

    What is handled here, and no longer ignored, is as usual again in a child.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.fixture(scope="session")
def toolchain() -> Toolchain:
    """The default build, which must be there: `make build` makes it."""
    built = describe(ToolchainConfig())
    if not built.is_built:
        pytest.fail("the llama.cpp build is missing: run `make build`")
    return built


@pytest.fixture(scope="session")
def toolchain_bin(toolchain: Toolchain) -> Path:
    """The folder of the patched binaries."""
    return toolchain.bin_dir


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real public data, where it is at hand."""
    folder = Path(os.environ.get("LLAMACPP_PIPELINE_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no shared/data beside the repository (LLAMACPP_PIPELINE_SHARED_DATA)")
    return folder
