"""The processes of a server, by proc(5): which there are, and what they use.

prometheus_client's own process metrics are about one process, and multiprocess mode has none. A
wrapped server is all that descends from this process, so that one page can speak for all of it.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from mpmetrics.host import boot_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client import Metric

_PROC: Final = "/proc"

# Where in the part of /proc/PID/stat behind the name these stand, counted from 0.
_STATE, _PARENT, _TIMES, _BEGAN, _VIRTUAL, _RESIDENT, _EXIT = 0, 1, 11, 19, 20, 21, 49
_NUMBER_OF_TIMES: Final = 4

_ENDED: Final = frozenset("ZXx")


class Process(NamedTuple):
    """A process at one moment.

    *cpu* are the seconds that it and its children have used, as far as it has waited for those;
    *began* is when, in seconds since this machine was started. *exit_status* is that of
    `os.waitpid`; None as long as it runs, and if the kernel does not tell us.
    """

    pid: int
    parent: int
    is_running: bool
    cpu: float
    began: float
    virtual_bytes: int
    resident_bytes: int
    exit_status: int | None


def read_process(pid: int) -> Process | None:
    """Return what there is to know about process *pid*, None if there is none."""
    try:
        with open(f"{_PROC}/{pid}/stat", "rb") as file:
            # The name of the program, in parentheses, can be anything.
            fields = file.read().rpartition(b") ")[2].split()
        ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        is_running = fields[_STATE].decode() not in _ENDED
        return Process(
            pid,
            int(fields[_PARENT]),
            is_running,
            sum(map(int, fields[_TIMES : _TIMES + _NUMBER_OF_TIMES])) / ticks,
            int(fields[_BEGAN]) / ticks,
            int(fields[_VIRTUAL]),
            int(fields[_RESIDENT]) * page,
            None if is_running or not _is_told_all(pid) else int(fields[_EXIT]),
        )
    except (OSError, ValueError, IndexError):
        return None


def _is_told_all(pid: int) -> bool:
    """Tell whether what the kernel says of process *pid* is true also where it is secret.

    proc(5) has 0 for the exit status of somebody else's process, which would pass for success.
    The same permission is asked for by its namespaces, and those are refused aloud.
    """
    try:
        os.readlink(f"{_PROC}/{pid}/ns/user")
    except OSError:
        return False
    return True


def children(pid: int) -> list[Process]:
    """Return the processes whose parent is *pid*, ended ones that it has not waited for, too."""
    pids = _listed_children(pid) if _lists_children() else _all_pids()
    found = map(read_process, pids)
    return [child for child in found if child is not None and child.parent == pid]


@cache
def _lists_children() -> bool:
    """Tell whether this kernel lists the children of each thread; most do."""
    return os.path.exists(f"{_PROC}/self/task/{os.getpid()}/children")


def _listed_children(pid: int) -> Iterator[int]:
    # Threads, and the process itself, may end at any moment.
    with suppress(FileNotFoundError):
        for thread in os.listdir(f"{_PROC}/{pid}/task"):
            with (
                suppress(FileNotFoundError, ProcessLookupError),
                open(f"{_PROC}/{pid}/task/{thread}/children", "rb") as file,
            ):
                yield from map(int, file.read().split())


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir(_PROC) if name.isdecimal()]


def descendants(pid: int) -> list[Process]:
    """Return the children of *pid*, theirs, and so on; parents before their children."""
    found = children(pid)
    for process in found:  # which grows on the way
        found += children(process.pid)
    return found


def workers(processes: Iterable[Process]) -> Iterator[Process]:
    """Yield those of *processes* that run the same program as their parent.

    So does each worker of a server, whether it was forked or spawned; a shell around the server
    does not, nor does a program that a worker calls.
    """
    processes = list(processes)
    programs = {process.pid: _program(process.pid) for process in processes}
    for process in processes:
        program = programs[process.pid]
        if program and program == programs.get(process.parent):
            yield process


def _program(pid: int) -> str:
    try:
        return os.readlink(f"{_PROC}/{pid}/exe")
    except OSError:
        return ""


def _open_files(pid: int) -> int | None:
    try:
        return len(os.listdir(f"{_PROC}/{pid}/fd"))
    except OSError:
        return None


def _file_limit(pid: int) -> float | None:
    """Return how many files process *pid* may have open."""
    try:
        with open(f"{_PROC}/{pid}/limits", "rb") as lines:
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
        processes = [each for each in descendants(os.getpid()) if each.is_running]
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
