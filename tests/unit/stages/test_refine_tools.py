"""What the probe of a refinement leaves, and what is made of it where something is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llamacpp_pipeline.errors import StepFailedError, UnreadableOutputError
from llamacpp_pipeline.process.command import Command, Outcome, Watcher
from llamacpp_pipeline.stages.refine_tools import PLANNER, PROBE, Bench

WANTED = [("one", {"a": "q4_K"}), ("other", {"a": "q8_0"})]


def line(key: str, tensors: dict[str, str]) -> str:
    said = {"key": key, "id": key, "hold": "native", "tensors": tensors, "relative_error": {}}
    cut = {"n_ctx": 64, "n_chunks": 2, "n_tokens": 62, "chunk_kld": [0.1, 0.2], "seconds": 1.0}
    found = {"kld": 0.15, "kld_stderr": 0.01, "kld_p999": 1.0, "same_top": 90.0}
    return json.dumps({**said, **cut, **found}) + "\n"


class Scripted:
    """A runner whose probe leaves these lines and ends with this code."""

    def __init__(self, lines: list[str], *, exit_code: int = 0) -> None:
        self.lines = lines
        self.exit_code = exit_code

    def run(self, command: Command, watcher: Watcher | None = None) -> Outcome:
        del watcher
        file = Path(command.argv[command.argv.index("--results") + 1])
        file.write_text("".join(self.lines))
        return Outcome(
            command=command,
            exit_code=self.exit_code,
            seconds=1.0,
            cpu_seconds=1.0,
            peak_rss_bytes=1,
        )


def bench(folder: Path, runner: Scripted) -> Bench:
    (folder / "text").write_text("a text\n")
    return Bench(
        runner=runner,
        binaries={PLANNER: folder / "planner", PROBE: folder / "probe"},
        model=folder / "model.gguf",
        imatrix=None,
        planner_flags=(),
        probe_flags=("--ctx-size", "64"),
        placement=(),
        n_threads=1,
        work=folder,
        scratch=folder,
    )


FLOOR, ONE, OTHER = line("0", {}), line("1", {"a": "q4_K"}), line("2", {"a": "q8_0"})


def test_measurements_are_found_by_their_types(tmp_path: Path) -> None:
    tools = bench(tmp_path, Scripted([OTHER, FLOOR, ONE]))
    floor, found = tools.measure(WANTED, tmp_path / "text", n_chunks=2)
    assert floor.key == "0"
    assert {name: one.key for name, one in found.items()} == {"one": "1", "other": "2"}


def test_what_is_missing_although_there_was_time_is_no_result(tmp_path: Path) -> None:
    tools = bench(tmp_path, Scripted([FLOOR, ONE]))
    with pytest.raises(UnreadableOutputError, match="all 2 measurements"):
        tools.measure(WANTED, tmp_path / "text", n_chunks=2)


def test_what_there_was_no_time_for_is_left_out(tmp_path: Path) -> None:
    tools = bench(tmp_path, Scripted([FLOOR, ONE]))
    _, found = tools.measure(WANTED, tmp_path / "text", n_chunks=2, minutes=1.0)
    assert set(found) == {"one"}


def test_without_the_floor_nothing_is_known(tmp_path: Path) -> None:
    tools = bench(tmp_path, Scripted([ONE, OTHER]))
    with pytest.raises(UnreadableOutputError, match="floor"):
        tools.measure(WANTED, tmp_path / "text", n_chunks=2)


def test_a_probe_that_failed_ends_the_refinement(tmp_path: Path) -> None:
    tools = bench(tmp_path, Scripted([FLOOR, ONE, OTHER], exit_code=1))
    with pytest.raises(StepFailedError, match="ended with code 1"):
        tools.measure(WANTED, tmp_path / "text", n_chunks=2)
