"""The processes of a server: those that descend from one process. Needs psutil, and Linux.

psutil reads the facts about a process from proc(5). Three of them are read here:

* The exit status of a process that its parent has not waited for: psutil does not have it.
* The children of a process: the kernel lists them. psutil looks at every process of the machine
  instead, which takes 1.6 ms of CPU time among 120 processes and 3.8 ms among 170, where the lists
  of 8 and of 64 processes take 0.1 and 0.8 ms. The watcher of workers looks every 20 ms and may
  spend a twentieth of its time on that.
* The program of a process: where its link cannot be read, psutil guesses it from the command line.
  It is also six times as slow.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics.errors import MissingExtraError

try:
    import psutil
except ImportError as error:
    raise MissingExtraError(package="psutil", extra="serve") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_PROC: Final = "/proc"

# Where the state and the exit status stand in /proc/PID/stat behind the name, counted from 0.
_STATE, _EXIT_STATUS = 0, 49

_ENDED_STATES: Final = (b"Z", b"X", b"x")
_ENDED: Final = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)

_SHELLS: Final = frozenset({"ash", "bash", "busybox", "dash", "fish", "ksh", "mksh", "sh", "zsh"})
"""Programs that start themselves as a child for a part of a script, which is no worker."""

UNREADABLE: Final = (psutil.Error, OSError)
"""What psutil raises for a process that has ended meanwhile, or that this user may not look at."""


class Process(NamedTuple):
    """A process at the moment of a look: its *parent*, and whether it *is_running* or has ended.

    *handle* is the process for psutil. Two handles are equal if they are of the same process, not
    of two that had one pid.
    """

    handle: psutil.Process
    parent: int
    is_running: bool

    @property
    def pid(self) -> int:
        """The pid of the process."""
        return self.handle.pid

    @property
    def started(self) -> float:
        """When the process was started, in seconds since the epoch; known also after its end."""
        return self.handle.create_time()


def read_exit_status(process: Process) -> int | None:
    """Return the status that `os.waitpid` would return for the *process*.

    It is None while the process runs, once its parent has waited for it, and if the kernel keeps
    the status secret.
    """
    pid = process.pid
    try:
        if not process.handle.is_running():  # it is not even a zombie
            return None
        with open(f"{_PROC}/{pid}/stat", "rb") as file:
            # The name of the program, in parentheses, can contain anything.
            fields = file.read().rpartition(b") ")[2].split()
        # For another user's process the status may be 0 instead of the true one, which would pass
        # for success. Its namespaces need the same permission, and the kernel refuses those.
        os.readlink(f"{_PROC}/{pid}/ns/user")
        return int(fields[_EXIT_STATUS]) if fields[_STATE] in _ENDED_STATES else None
    except (*UNREADABLE, ValueError, IndexError):
        return None


def read_age(process: Process) -> float:
    """Return for how many seconds the *process* has existed, whether or not it has ended.

    psutil has its start by the wall clock. That clock may be set; the one since boot may not.
    """
    started_after_boot = process.started - psutil.boot_time()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_after_boot


def has_own_proc() -> bool:
    """Return whether proc(5) shows the pids of the namespace that this process is in.

    It shows those of another one after `unshare --pid` without `--mount-proc`. There the pid of
    this process is that of a stranger.
    """
    try:
        return os.readlink(f"{_PROC}/self") == str(os.getpid())
    except OSError:
        return False


def list_children(pid: int) -> list[Process]:
    """List the processes whose parent is *pid*, with those that it has not waited for.

    There are none where proc(5) has the pids of another namespace: see `has_own_proc`.
    """
    if not has_own_proc():
        return []
    return (read_children if _has_children_lists() else search_children)(pid)


@cache
def _has_children_lists() -> bool:
    """Return whether this kernel lists the children of each thread; most do."""
    return os.path.exists(f"{_PROC}/self/task/{os.getpid()}/children")


def read_children(pid: int) -> list[Process]:
    """List the children of process *pid* by the kernel's lists."""
    children = []
    for child in _read_child_pids(pid):
        with suppress(*UNREADABLE):
            handle = psutil.Process(child)
            children.append(Process(handle, pid, handle.status() not in _ENDED))
    return children


def _read_child_pids(pid: int) -> Iterator[int]:
    # Threads, and the process itself, may end at any moment.
    with suppress(FileNotFoundError):
        for thread in os.listdir(f"{_PROC}/{pid}/task"):
            with (
                suppress(FileNotFoundError, ProcessLookupError),
                open(f"{_PROC}/{pid}/task/{thread}/children", "rb") as file,
            ):
                yield from map(int, file.read().split())


def search_children(pid: int) -> list[Process]:
    """List the children of process *pid* by a search among all processes of the machine."""
    children = []
    with suppress(*UNREADABLE):
        for handle in psutil.Process(pid).children():
            with suppress(*UNREADABLE):
                children.append(Process(handle, pid, handle.status() not in _ENDED))
    return children


def list_descendants(
    pid: int, children_of: Callable[[int], Iterable[Process]] = list_children
) -> list[Process]:
    """List the children of *pid*, their children, and so on; parents before their children."""
    found = list(children_of(pid))
    for process in found:  # the list grows meanwhile
        found += children_of(process.pid)
    return found


def select_workers(processes: Iterable[Process]) -> Iterator[Process]:
    """Yield those of *processes* that run the same program as their parent.

    So does each worker of a server, whether it was forked or spawned. A shell around the server
    does not, nor does a program that a worker calls. Nor does a part of a shell script, such as
    that which pyenv puts in the place of each program.
    """
    processes = list(processes)
    programs = {process.pid: _read_program(process.pid) for process in processes}
    for process in processes:
        program = programs[process.pid]
        is_shell = os.path.basename(program) in _SHELLS
        if program and program == programs.get(process.parent) and not is_shell:
            yield process


def _read_program(pid: int) -> str:
    """Return the path of the program of process *pid*, "" if it cannot be read."""
    try:
        return os.readlink(f"{_PROC}/{pid}/exe")
    except OSError:
        return ""
