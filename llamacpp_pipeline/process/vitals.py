"""CPU time and memory of a child and its descendants, sampled while it runs."""

from __future__ import annotations

import resource
import sys

import psutil

MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB elsewhere


class Vitals:
    """The vital signs of one child."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._cpu: dict[tuple[int, float], float] = {}
        self._final_cpu = 0.0
        # On Linux a child's ru_maxrss begins at its parent's peak: below that it says nothing.
        self._own_peak = _maxrss(resource.getrusage(resource.RUSAGE_SELF))
        self.rss_bytes = 0
        self.peak_rss_bytes = 0

    @property
    def cpu_seconds(self) -> float:
        """Of all processes seen, ended ones included."""
        return max(self._final_cpu, sum(self._cpu.values()))

    def sample(self) -> None:
        """Look at the child and all its descendants; those that just ended are passed over."""
        try:
            child = psutil.Process(self._pid)
            family = [child, *child.children(recursive=True)]
        except psutil.Error:
            return
        self.rss_bytes = sum(map(self._look_at, family))
        self.peak_rss_bytes = max(self.peak_rss_bytes, self.rss_bytes)

    def settle(self, usage: resource.struct_rusage) -> None:
        """Take over what the kernel counted: exact for the child and what it waited for."""
        self._final_cpu = usage.ru_utime + usage.ru_stime
        peak = _maxrss(usage)
        if peak > self._own_peak or self.peak_rss_bytes == 0:
            self.peak_rss_bytes = max(self.peak_rss_bytes, peak)

    def _look_at(self, process: psutil.Process) -> int:
        try:
            with process.oneshot():
                times = process.cpu_times()
                self._cpu[process.pid, process.create_time()] = times.user + times.system
                return int(process.memory_info().rss)
        except psutil.Error:
            return 0


def _maxrss(usage: resource.struct_rusage) -> int:
    return int(usage.ru_maxrss) * MAXRSS_UNIT
