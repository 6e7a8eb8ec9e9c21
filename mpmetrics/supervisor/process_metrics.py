"""The `process_*` metrics of all processes of a server."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from mpmetrics.system import PROC, Process, boot_time, list_descendants

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client import Metric


def _open_files(pid: int) -> int | None:
    try:
        return len(os.listdir(f"{PROC}/{pid}/fd"))
    except OSError:
        return None


def _file_limit(pid: int) -> float | None:
    """Return how many files process *pid* may have open."""
    try:
        with open(f"{PROC}/{pid}/limits", "rb") as lines:
            for line in lines:
                if line.startswith(b"Max open files"):
                    soft = line.split()[3]
                    return float("inf") if soft == b"unlimited" else float(soft)
    except (OSError, ValueError, IndexError):
        pass
    return None


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

    They are sums, but for the start time, which is the earliest; or, *per_worker*, there is a
    series for each process, with a label `pid`.
    """

    def __init__(self, *, per_worker: bool = False) -> None:
        """Look at nothing yet."""
        self._per_worker = per_worker
        self._lock = threading.Lock()
        self._cpu = 0.0
        self._lost_cpu = 0.0

    def collect(self) -> Iterator[Metric]:
        """Look at all processes; yield one family after the other."""
        processes = [each for each in list_descendants(os.getpid()) if each.is_running]
        values = {process.pid: _values(process) for process in processes}
        cpu = CounterMetricFamily(_CPU, _CPU_HELP, labels=["pid"] if self._per_worker else [])
        if self._per_worker:
            for process in processes:
                cpu.add_metric([str(process.pid)], process.cpu)
        else:
            cpu.add_metric([], self._total_cpu(processes))
        yield cpu
        for name, help_text in _GAUGES.items():
            yield self._gauge(name, help_text, values)

    def _gauge(
        self, name: str, help_text: str, values: Mapping[int, Mapping[str, float]]
    ) -> GaugeMetricFamily:
        """Return the family *name* of all processes."""
        known = {pid: each[name] for pid, each in values.items() if name in each}
        if self._per_worker:
            family = GaugeMetricFamily(name, help_text, labels=["pid"])
            for pid, value in known.items():
                family.add_metric([str(pid)], value)
            return family
        family = GaugeMetricFamily(name, help_text)
        if known:
            together = min if name == "process_start_time_seconds" else sum
            family.add_metric([], together(known.values()))
        return family

    def _total_cpu(self, processes: Iterable[Process]) -> float:
        """Return the seconds that all processes have used, ended ones included.

        Who waits for a child takes over its time; whoever ignores its children loses that, and
        here it is kept.
        """
        own = os.times()
        now = sum(process.cpu for process in processes)
        now += own.children_user + own.children_system
        with self._lock:
            self._lost_cpu += max(0.0, self._cpu - now)
            self._cpu = now
            return now + self._lost_cpu


def _values(process: Process) -> Mapping[str, float]:
    """Return the gauges of one *process*, without what cannot be known."""
    booted = boot_time()
    values = {
        "process_virtual_memory_bytes": process.virtual_bytes,
        "process_resident_memory_bytes": process.resident_bytes,
        "process_start_time_seconds": None if booted is None else booted + process.began,
        "process_open_fds": _open_files(process.pid),
        "process_max_fds": _file_limit(process.pid),
    }
    return {name: float(value) for name, value in values.items() if value is not None}
