"""The files that a process has open or mapped, by their names. Linux only.

A file that is mapped (proc(5): `/proc/PID/maps`) is in use even if its descriptor is closed, and
the kernel lists mappings at once, where each descriptor takes a call. So descriptors are only
looked at where no mapping is of interest.
"""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROC: Final = "/proc"
_DELETED: Final = b" (deleted)"

_MOST_BYTES: Final = 8 << 20
"""The bytes of the longest list of mappings that is read: some 80,000 mappings."""

_MOST_DESCRIPTORS: Final = 4096
"""How many descriptors of one process are looked at."""

_PATH: Final = 5
"""Where the path stands in a line of mappings, counted from 0."""


class OpenFile(NamedTuple):
    """A file that a process uses: its *path*, and whether it *is_deleted* from there."""

    path: str
    is_deleted: bool


def list_open_files(pid: int, suffix: str) -> frozenset[OpenFile]:
    """List the files that process *pid* has mapped or open and whose names end in *suffix*.

    Raises `OSError` if the process has ended, or if this user may not look at it.
    """
    end = os.fsencode(suffix)
    return frozenset(_list_mapped(pid, end)) or frozenset(_list_descriptors(pid, end))


def _list_mapped(pid: int, end: bytes) -> Iterator[OpenFile]:
    with open(f"{_PROC}/{pid}/maps", "rb") as file:
        data = file.read(_MOST_BYTES)
    ends = (end, end + _DELETED)
    for line in data.split(b"\n"):
        if line.endswith(ends):
            # The kernel escapes nothing in a path but line breaks.
            path = line.split(None, _PATH)[_PATH].replace(rb"\012", b"\n")
            yield _parse(path)


def _list_descriptors(pid: int, end: bytes) -> Iterator[OpenFile]:
    ends = (end, end + _DELETED)
    with os.scandir(f"{_PROC}/{pid}/fd") as entries:
        for entry in islice(entries, _MOST_DESCRIPTORS):
            try:
                path = os.readlink(os.fsencode(entry.path))
            except FileNotFoundError:  # closed meanwhile
                continue
            if path.endswith(ends):
                yield _parse(path)


def _parse(path: bytes) -> OpenFile:
    """Return the file of a *path* as the kernel shows it."""
    return OpenFile(os.fsdecode(path.removesuffix(_DELETED)), path.endswith(_DELETED))


def read_variable(pid: int, name: str) -> str | None:
    """Return the variable *name* that process *pid* was started with, None without one.

    Raises `OSError` as `list_open_files` does.
    """
    with open(f"{_PROC}/{pid}/environ", "rb") as file:
        data = file.read(_MOST_BYTES)
    start = os.fsencode(name) + b"="
    for each in data.split(b"\0"):
        if each.startswith(start):
            return os.fsdecode(each.removeprefix(start))
    return None
