"""The `process_*` metrics of all processes of a server.

prometheus_client's own process metrics are about one process, and it does not have them in
multiprocess mode. Here they are about every process that descends from the wrapper, so that one
page describes the whole server.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from mpmetrics.system import UNREADABLE, list_descendants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

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


_LOOKS: Final = 5
"""How often to look at the CPU times if processes end meanwhile."""

_TICK: Final = 0.02
"""Seconds by which the start of a process may be dated too early."""


class _Look(NamedTuple):
    """The *processes* at one moment, with those that have ended and that their parents wait for.

    *seconds* are the CPU times by pid, *own* is the time of the children that this process has
    waited for. If it *is_settled*, no process went during the look.
    """

    processes: Sequence[Process]
    seconds: Mapping[int, float]
    own: float
    is_settled: bool = True


def _list_processes() -> list[Process]:
    """List the processes that descend from this one."""
    return list_descendants(os.getpid())


class ProcessMetrics:
    """The `process_*` metrics of everything that descends from this process.

    They are sums, except the start time, which is the earliest. With *per_worker*, there is a
    series for each process instead, with a label `pid`.
    """

    def __init__(
        self,
        *,
        per_worker: bool = False,
        list_processes: Callable[[], Sequence[Process]] = _list_processes,
    ) -> None:
        """Choose sums or, with *per_worker*, series; nothing is read yet.

        *list_processes* lists the descendants of this process.
        """
        self._per_worker = per_worker
        self._list_processes = list_processes
        self._lock = threading.Lock()
        self._cpu = 0.0
        self._lost_cpu = 0.0

    def collect(self) -> Iterator[Metric]:
        """Look at all processes; yield one family after the other."""
        look = self._look()
        processes = [each for each in look.processes if each.is_running]
        seconds = {
            each.pid: look.seconds[each.pid] for each in processes if each.pid in look.seconds
        }
        values = {process.pid: _read_gauges(process) for process in processes}
        cpu = CounterMetricFamily(_CPU, _CPU_HELP, labels=["pid"] if self._per_worker else [])
        if self._per_worker:
            for pid, value in seconds.items():
                cpu.add_metric([str(pid)], value)
        else:
            cpu.add_metric([], self._total_cpu(look))
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

    def _look(self) -> _Look:
        """Read the CPU times of all processes, while none of them goes, if that is possible.

        A parent that waits for its child takes over the child's time. If that happens between the
        readings of the two, the time counts twice, or not at all.
        """
        for _ in range(_LOOKS):
            begun = time.time() - _TICK
            processes = self._list_processes()
            seconds = _read_cpu_seconds(processes)
            own = os.times()
            look = _Look(processes, seconds, own.children_user + own.children_system)
            before = {process.handle for process in processes}
            after = {process.handle: process for process in self._list_processes()}
            came = [each for handle, each in after.items() if handle not in before]
            if before <= after.keys() and all(each.started >= begun for each in came):
                return look
        return look._replace(is_settled=False)

    def _total_cpu(self, look: _Look) -> float:
        """Return the CPU time of all processes at a *look*, and of all that have ended.

        A parent that waits for its child takes over the child's time. If it ignores its children,
        the kernel drops their time; here it is kept.
        """
        now = sum(look.seconds.values()) + look.own
        with self._lock:
            if look.is_settled:
                self._lost_cpu += max(0.0, self._cpu - now)
                self._cpu = now
            return self._cpu + self._lost_cpu


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
