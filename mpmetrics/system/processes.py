"""The processes of a server, by proc(5): which there are, and what they use.

prometheus_client's own process metrics are about one process, and multiprocess mode has none. A
wrapped server is all that descends from this process, so that one page can speak for all of it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


PROC: Final = "/proc"


def boot_time() -> float | None:
    """Return when this machine was started, in seconds since the epoch; None if not known."""
    try:
        with open(os.path.join(PROC, "stat"), "rb") as lines:
            return next((float(line.split()[1]) for line in lines if line[:6] == b"btime "), None)
    except OSError:
        return None


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
        with open(f"{PROC}/{pid}/stat", "rb") as file:
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
        os.readlink(f"{PROC}/{pid}/ns/user")
    except OSError:
        return False
    return True


def list_children(pid: int) -> list[Process]:
    """Return the processes whose parent is *pid*, ended ones that it has not waited for, too."""
    pids = _listed_children(pid) if _lists_children() else _all_pids()
    found = map(read_process, pids)
    return [child for child in found if child is not None and child.parent == pid]


@cache
def _lists_children() -> bool:
    """Tell whether this kernel lists the children of each thread; most do."""
    return os.path.exists(f"{PROC}/self/task/{os.getpid()}/children")


def _listed_children(pid: int) -> Iterator[int]:
    # Threads, and the process itself, may end at any moment.
    with suppress(FileNotFoundError):
        for thread in os.listdir(f"{PROC}/{pid}/task"):
            with (
                suppress(FileNotFoundError, ProcessLookupError),
                open(f"{PROC}/{pid}/task/{thread}/children", "rb") as file,
            ):
                yield from map(int, file.read().split())


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir(PROC) if name.isdecimal()]


def list_descendants(pid: int) -> list[Process]:
    """Return the children of *pid*, theirs, and so on; parents before their children."""
    found = list_children(pid)
    for process in found:  # which grows on the way
        found += list_children(process.pid)
    return found


def select_workers(processes: Iterable[Process]) -> Iterator[Process]:
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
        return os.readlink(f"{PROC}/{pid}/exe")
    except OSError:
        return ""
