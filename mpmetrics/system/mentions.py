"""The processes that mention a directory: in their environment, command line or working directory.

The kernel shows the environment that a process was started with (proc(5)). It hides that of other
users' processes, and that of a process which has changed its user. Of those it shows when they were
started, and in which control group they are.

psutil is not used, since those who look are not only the commands that need it.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

_PROC: Final = "/proc"

_PARENT, _SESSION, _FLAGS, _STARTED = 1, 3, 6, 19
"""Where facts of a process stand in /proc/PID/stat behind the name, counted from 0."""

_KERNEL_THREAD: Final = 0x00200000  # PF_KTHREAD
_ENDED: Final = (b"Z", b"X", b"x")

_PAUSES: Final = (*[0.0] * 10, *[0.02] * 25)
"""Seconds before each look for processes that were started while others were looked at."""

_LONGEST_START: Final = 1000
"""Ticks after which a process that has neither arguments nor variables is not just starting."""

_TRACKER: Final = b"multiprocessing.resource_tracker"
"""What names the helper of Python's multiprocessing, which writes no metrics and ends by itself."""


_ENDED_MEANWHILE: Final = (FileNotFoundError, ProcessLookupError)


class Hidden(NamedTuple):
    """The process *pid*, which hides its environment: when it *started*, its *session* and *group*.

    The start is in ticks of the kernel's clock since the boot, the group is the control group.
    """

    pid: int
    started: int
    session: int
    group: str


class Mentions(NamedTuple):
    """The *words* that living processes mention, and the processes that *hidden* facts are of.

    *parents* has the parent of each process that lived.
    """

    words: frozenset[str]
    hidden: Sequence[Hidden]
    parents: Mapping[int, int]

    def may_include(self, word: str, *, since: int, session: int, group: str) -> bool:
        """Return whether a process may mention *word*, which nothing knew before the tick *since*.

        Of the processes that hide their environment, those count that were started since then
        where the word was made: in the same control *group*, and if that is the group of the whole
        system, in the same *session*. The parents of this process do not count.
        """
        if word in self.words:
            return True
        return any(
            each.started >= since
            and each.group == group
            and (each.session == session or not is_whole_system(group))
            and not self._descends(os.getpid(), each.pid)
            for each in self.hidden
        )

    def may_include_below(self, word: str, ancestor: int) -> bool:
        """Return whether a process may mention *word*, that descendants of *ancestor* know."""
        return word in self.words or any(self._descends(each.pid, ancestor) for each in self.hidden)

    def _descends(self, pid: int, ancestor: int) -> bool:
        for _ in self.parents:  # no more steps than there are processes
            pid = self.parents.get(pid, 0)
            if pid in {0, ancestor}:
                break
        return pid == ancestor


def find_mentions(words: Collection[str], *, besides: int = 0) -> Mentions | None:
    """Find out which of *words* living processes mention, the process *besides* excepted.

    Return None when that cannot be known: new processes start faster than they can be looked at, or
    this process may not open files. On systems without proc(5), nothing is found.
    """
    wanted = {os.fsencode(word): word for word in words}
    found: set[str] = set()
    hidden: list[Hidden] = []
    parents: dict[int, int] = {}
    seen = {besides}
    for pause in _PAUSES:
        # A child is listed before its parent ends, or mentions what its parent mentioned.
        pids = {*_list_pids()} - seen
        if not pids:
            return Mentions(frozenset(found), hidden, parents)
        time.sleep(pause)
        for pid in pids:
            try:
                text = _read_facts(pid, parents)
            except OSError:
                return None
            if isinstance(text, Hidden):
                hidden.append(text)
            elif text is not None:
                found.update(word for key, word in wanted.items() if key in text)
            if text is not None:
                seen.add(pid)
    return None


def read_tick() -> int:
    """Return the ticks since the boot, by which the kernel dates processes; 0 if not on Linux."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    if clock is None:
        return 0
    return int(time.clock_gettime(clock) * os.sysconf("SC_CLK_TCK"))


def read_control_group(pid: int | str = "self") -> str:
    """Return the control group of process *pid*, "" if that is not known."""
    try:
        return _read(pid, "cgroup").decode(errors="replace").strip()
    except OSError:
        return ""


def is_whole_system(group: str) -> bool:
    """Return whether a control *group*, as `read_control_group` gives it, tells nothing apart."""
    return all(line.endswith(":/") for line in group.splitlines())


def read_pid_namespace() -> int:
    """Return the number of the pid namespace of this process, 0 if that is not known."""
    try:
        return os.stat(f"{_PROC}/self/ns/pid").st_ino
    except OSError:
        return 0


def read_boot() -> str:
    """Return the id of this boot of the kernel, "" if that is not known."""
    try:
        return _read("sys", "kernel/random/boot_id").decode().strip()
    except OSError:
        return ""


def _list_pids() -> Iterator[int]:
    try:
        names = os.listdir(_PROC)
    except OSError:
        return
    yield from (int(name) for name in names if name.isdecimal())


def _read_facts(pid: int, parents: dict[int, int]) -> bytes | Hidden | None:
    """Return what process *pid* mentions; b"" if it has ended, or is a thread of the kernel.

    Return None for a process that is just starting its program: it mentions nothing yet. Note its
    parent in *parents*. Raises `OSError` when this process may not open files.
    """
    try:
        status = _read(pid, "stat").rpartition(b") ")[2].split()
        if status[0] in _ENDED or int(status[_FLAGS]) & _KERNEL_THREAD:
            return b""
        parents[pid] = int(status[_PARENT])
        command = _read(pid, "cmdline")
        if _TRACKER in command:
            return b""
        started = int(status[_STARTED])
        try:
            variables = _read(pid, "environ")
            place = os.fsencode(os.readlink(f"{_PROC}/{pid}/cwd"))
        except PermissionError:
            return Hidden(pid, started, int(status[_SESSION]), read_control_group(pid))
    except (*_ENDED_MEANWHILE, PermissionError, ValueError, IndexError):
        return b""
    is_starting = not (command or variables) and read_tick() - started < _LONGEST_START
    return None if is_starting else b"\0".join([command, variables, place])


def _read(pid: int | str, name: str) -> bytes:
    with open(f"{_PROC}/{pid}/{name}", "rb") as file:
        return file.read()
