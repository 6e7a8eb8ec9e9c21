"""The `process_*` metrics of all processes of a server.

prometheus_client's own process metrics are about one process, and it does not have them in
multiprocess mode. Here they are about every process that descends from the wrapper, so that one
page describes the whole server.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from mpmetrics.system import UNREADABLE, list_descendants

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client import Metric

    from mpmetrics.system import Process

# Names and help texts are those of prometheus_client's own ProcessCollector.
_GAUGES: Final[Mapping[str, str]] = {
    "process_virtual_memory_bytes": "Virtual memory size in bytes.",
    "process_resident_memory_bytes": "Resident memory size in bytes.",
    "process_start_time_seconds": "Start time of the process since unix epoch in seconds.",
    "process_open_fds": "Number of open file descriptors.",
    "process_max_fds": "Maximum number of open file descriptors.",
}
_CPU: Final = "process_cpu_seconds"
_CPU_HELP: Final = "Total user and system CPU time spent in seconds."


class ProcessMetrics:
    """The `process_*` metrics of everything that descends from this process.

    They are sums, except the start time, which is the earliest. With *per_worker*, there is a
    series for each process instead, with a label `pid`.
    """

    def __init__(self, *, per_worker: bool = False) -> None:
        """Choose sums or, with *per_worker*, series; nothing is read yet."""
        self._per_worker = per_worker
        self._lock = threading.Lock()
        self._cpu = 0.0
        self._lost_cpu = 0.0

    def collect(self) -> Iterator[Metric]:
        """Look at all processes; yield one family after the other."""
        processes = [each for each in list_descendants(os.getpid()) if each.is_running]
        # First the CPU times, close together: between two of them a process may end, whose time
        # its parent takes over.
        seconds = _read_cpu_seconds(processes)
        values = {process.pid: _read_gauges(process) for process in processes}
        cpu = CounterMetricFamily(_CPU, _CPU_HELP, labels=["pid"] if self._per_worker else [])
        if self._per_worker:
            for pid, value in seconds.items():
                cpu.add_metric([str(pid)], value)
        else:
            cpu.add_metric([], self._total_cpu(seconds.values()))
        yield cpu
        for name, help_text in _GAUGES.items():
            yield self._make_gauge(name, help_text, values)

    def _make_gauge(
        self, name: str, help_text: str, values: Mapping[int, Mapping[str, float]]
    ) -> GaugeMetricFamily:
        """Return the family *name* of all processes, whose gauges *values* has by pid."""
        known = {pid: each[name] for pid, each in values.items() if name in each}
        if self._per_worker:
            family = GaugeMetricFamily(name, help_text, labels=["pid"])
            for pid, value in known.items():
                family.add_metric([str(pid)], value)
            return family
        family = GaugeMetricFamily(name, help_text)
        if known:
            merge = min if name == "process_start_time_seconds" else sum
            family.add_metric([], merge(known.values()))
        return family

    def _total_cpu(self, seconds: Iterable[float]) -> float:
        """Return the CPU time of all processes, which use *seconds*, and of all that have ended.

        A parent that waits for its child takes over the child's time. If it ignores its children,
        the kernel drops their time; here it is kept.
        """
        own = os.times()
        now = sum(seconds) + own.children_user + own.children_system
        with self._lock:
            self._lost_cpu += max(0.0, self._cpu - now)
            self._cpu = now
            return now + self._lost_cpu


def _read_cpu_seconds(processes: Iterable[Process]) -> dict[int, float]:
    """Return the CPU time of each process and of the children it has waited for, by its pid."""
    seconds = {}
    for process in processes:
        with suppress(*UNREADABLE):
            times = process.handle.cpu_times()
            seconds[process.pid] = (
                times.user + times.system + times.children_user + times.children_system
            )
    return seconds


def _read_gauges(process: Process) -> Mapping[str, float]:
    """Return the gauges of one *process*, without those that cannot be read."""
    values: dict[str, float] = {}
    with suppress(*UNREADABLE):
        memory = process.handle.memory_info()
        values["process_virtual_memory_bytes"] = float(memory.vms)
        values["process_resident_memory_bytes"] = float(memory.rss)
        values["process_start_time_seconds"] = process.started
    with suppress(*UNREADABLE):
        values["process_open_fds"] = float(process.handle.num_fds())
    limit = _read_file_limit(process.pid)
    if limit is not None:
        values["process_max_fds"] = limit
    return values


def _read_file_limit(pid: int) -> float | None:
    """Return how many files process *pid* may have open, None if that is not known.

    psutil asks prlimit(2), which answers about another user's process only with CAP_SYS_RESOURCE;
    root in a container lacks that. The file in /proc can be read without it.
    """
    try:
        with open(f"/proc/{pid}/limits", "rb") as lines:
            for line in lines:
                if line.startswith(b"Max open files"):
                    soft = line.split()[3]
                    return float("inf") if soft == b"unlimited" else float(soft)
    except (OSError, ValueError, IndexError):
        pass
    return None
