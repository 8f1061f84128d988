"""llama-fit-params: what it is asked, and what is made of its whole MiB."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages.memory import STAGE, MemoryParams
from tests.unit.stages.makers import recorded

TOOL = "llama-fit-params"
MIB = 2**20
PATHS = {"model": Path("f16.gguf")}


def test_context_cache_type_and_batches_are_all_said() -> None:
    command = STAGE.argv(MemoryParams(n_ctx=32768, kv_type="q8_0"), PATHS)

    assert command == (
        *(TOOL, "--model", "f16.gguf", "--fit-print", "on", "--ctx-size", "32768"),
        *("--cache-type-k", "q8_0", "--cache-type-v", "q8_0"),
        *("--batch-size", "2048", "--ubatch-size", "512", "--flash-attn", "auto"),
        *("--parallel", "1"),
    )


def test_a_context_that_the_tool_cannot_count_is_refused() -> None:
    with pytest.raises(InputError, match="more than llama"):
        STAGE.argv(MemoryParams(n_ctx=3_000_000_000), PATHS)


def test_whole_mib_are_rounded_up() -> None:
    result = STAGE.read(MemoryParams(n_ctx=32768), recorded(TOOL, "good"), PATHS)

    assert (result.n_ctx, result.kv_type) == (32768, "f16")
    assert (result.context_bytes, result.compute_bytes) == (17 * MIB, 40 * MIB)
    assert [(part.name, part.weights_bytes) for part in result.devices] == [("Host", 8 * MIB)]


def test_devices_and_host_are_added() -> None:
    log = recorded(TOOL, "good").replace("Host 8", "CUDA0 5000 640 500 \nHost 8")

    result = STAGE.read(MemoryParams(n_ctx=32768), log, PATHS)

    assert result.context_bytes == (641 + 17) * MIB
    assert result.compute_bytes == (501 + 40) * MIB


def test_without_the_hosts_line_there_is_no_result() -> None:
    log = recorded(TOOL, "good").replace("Host 8 16 39", "")

    with pytest.raises(UnreadableOutputError, match="a line of memory for each device"):
        STAGE.read(MemoryParams(n_ctx=32768), log, PATHS)


@pytest.mark.parametrize(
    ("case", "words", "fix"),
    [
        ("no_context", "cannot make a context", "kv_type"),
        ("bad_file", "cut short or is not a GGUF", "again"),
    ],
)
def test_known_failures_are_explained(case: str, words: str, fix: str) -> None:
    explained = STAGE.explain(recorded(TOOL, case))

    assert isinstance(explained, InputError)
    assert words in explained.message
    assert explained.hint is not None
    assert fix in explained.hint
