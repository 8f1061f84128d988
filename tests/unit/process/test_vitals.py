from __future__ import annotations

import os
import resource
from pathlib import Path

from llamacpp_pipeline.process.runner import logged_output
from llamacpp_pipeline.process.vitals import MAXRSS_UNIT, Vitals


def usage(seconds: float, peak: int) -> resource.struct_rusage:
    values = [seconds / 2, seconds / 2, peak // MAXRSS_UNIT, *([0] * 13)]
    return resource.struct_rusage(values)


def test_a_running_process_has_memory_and_time() -> None:
    vitals = Vitals(os.getpid())
    vitals.sample()

    assert vitals.rss_bytes > 1 << 20
    assert vitals.peak_rss_bytes == vitals.rss_bytes
    assert vitals.cpu_seconds > 0


def test_a_process_that_is_gone_is_passed_over() -> None:
    vitals = Vitals(2**22 + 12345)
    vitals.sample()

    assert (vitals.cpu_seconds, vitals.peak_rss_bytes) == (0.0, 0)


def test_the_kernels_count_is_taken_where_nothing_was_sampled() -> None:
    vitals = Vitals(2**22 + 12345)
    vitals.settle(usage(2.0, 4 << 20))

    assert (vitals.cpu_seconds, vitals.peak_rss_bytes) == (2.0, 4 << 20)


def test_a_peak_that_could_be_the_parents_does_not_raise_a_sampled_one() -> None:
    vitals = Vitals(os.getpid())
    vitals.peak_rss_bytes = 1 << 20
    vitals.settle(usage(1.0, 2 << 20))  # far below what this process itself has used

    assert vitals.peak_rss_bytes == 1 << 20


def test_a_peak_above_the_parents_is_exact() -> None:
    vitals = Vitals(os.getpid())
    vitals.peak_rss_bytes = 1 << 20
    vitals.settle(usage(1.0, 1 << 50))

    assert vitals.peak_rss_bytes == 1 << 50


def test_output_without_the_command_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"$ tool --flag\nfirst\nsecond \xff\n")
    assert logged_output(log) == "first\nsecond \ufffd\n"
    log.write_text("no command\nsecond")
    assert logged_output(log) == "no command\nsecond"
