"""The running processes of the server that a directory is for, as far as this user may see them."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics.directory import VARIABLE, Writer, find_writer
from mpmetrics.system import read_variable

if TYPE_CHECKING:
    from collections.abc import Sequence

_PROC: Final = "/proc"

_MOST_SECONDS: Final = 3.0
"""How long the search takes at most: a machine may have many thousands of processes."""

_PARENT: Final = 1
"""Where the parent stands in /proc/PID/stat behind the name, counted from 0."""

_MOST_BYTES: Final = 1 << 16

_EFFECTIVE: Final = 1
"""Where the effective user or group stands in a line of /proc/PID/status, counted from 0."""

_MAKE_FILES: Final = (0o300, 0o030, 0o003)
"""What it takes to make a file in a directory: for its owner, its group, and others."""


class ServerProcess(NamedTuple):
    """A process of a server: where it writes (*writer*), and its command line (*arguments*).

    *may_write* is whether its user may make files in the directory, by the mode of that.
    """

    writer: Writer
    arguments: Sequence[str] = ()
    may_write: bool = True


def find_server_processes(directory: str) -> list[ServerProcess]:
    """Find the processes that were started with the variable for *directory*, and their children.

    A library may have set another directory for the children. On other systems than Linux, and of
    other users, there are none. This process and its ancestors do not count: a shell has variables
    for its commands, not for itself.
    """
    deadline = time.monotonic() + _MOST_SECONDS
    own = os.path.realpath(directory)
    parents: dict[int, int] = {}
    found: set[int] = set()
    for pid in _list_pids():
        if time.monotonic() > deadline:
            break
        with suppress(OSError, ValueError, IndexError):
            parents[pid] = _read_parent(pid)
            path = read_variable(pid, VARIABLE)
            if path and os.path.realpath(os.path.join(f"{_PROC}/{pid}/cwd", path)) == own:
                found.add(pid)
    ancestors = {*_list_ancestors(os.getpid(), parents)}
    pids = [
        pid
        for pid in sorted(parents.keys() - ancestors)
        if not found.isdisjoint({*_list_ancestors(pid, parents)} - ancestors)
    ]
    processes = [
        ServerProcess(find_writer(pid, directory), _read_arguments(pid), _may_write(pid, directory))
        for pid in pids
    ]
    return [each for each in processes if each.writer.place != "unknown"]


def _list_pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir(_PROC) if name.isdecimal()]
    except OSError:
        return []


def _read_parent(pid: int) -> int:
    """Return the parent of process *pid*. Raises `OSError`, `ValueError` or `IndexError`."""
    with open(f"{_PROC}/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b") ")[2].split()[_PARENT])


def _list_ancestors(pid: int, parents: dict[int, int]) -> list[int]:
    """List *pid* and the processes that it descends from."""
    ancestors = []
    while pid and pid not in ancestors:
        ancestors.append(pid)
        pid = parents.get(pid, 0)
    return ancestors


def _read_arguments(pid: int) -> list[str]:
    """Return the command line of process *pid*, as far as it can be read."""
    try:
        with open(f"{_PROC}/{pid}/cmdline", "rb") as file:
            return [os.fsdecode(each) for each in file.read(_MOST_BYTES).split(b"\0")][:-1]
    except OSError:
        return []


def _may_write(pid: int, directory: str) -> bool:
    """Return whether the user of process *pid* may make files in the *directory*, as far as known.

    Its access control list, if it has one, is not looked at: then the group's bits are its mask.
    """
    try:
        with open(f"{_PROC}/{pid}/status", "rb") as file:
            facts = dict(line.split(b":", 1) for line in file.read().splitlines() if b":" in line)
        user, main_group = (int(facts[name].split()[_EFFECTIVE]) for name in (b"Uid", b"Gid"))
        groups = {main_group, *map(int, facts[b"Groups"].split())}
        status = os.stat(directory)
    except (OSError, ValueError, KeyError, IndexError):
        return True
    if user in {0, status.st_uid}:
        return user == 0 or status.st_mode & _MAKE_FILES[0] == _MAKE_FILES[0]
    wanted = _MAKE_FILES[1 if status.st_gid in groups else 2]
    return status.st_mode & wanted == wanted
