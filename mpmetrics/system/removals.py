"""When the kernel has forgotten a removed directory, by inotify(7). Linux only.

A removed directory goes on to exist in the kernel's memory for as long as something refers to it,
or to an entry that it once had: an open file, or a process in the middle of opening one. The kernel
sends `IN_DELETE_SELF` when nothing does so any more, and if nothing did at the moment of rmdir(2),
then before that call returns.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
import time
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Self

_DELETE_SELF: Final = 0x0000_0400
_ONLY_DIRECTORIES: Final = 0x0100_0000
_NO_LINKS: Final = 0x0200_0000

_EVENT: Final = struct.Struct("iIII")
_ROOM: Final = 1 << 16


class RemovalWatch:
    """A watch on directories that are about to be removed. Close it, or use it in a `with`."""

    def __init__(self) -> None:
        """Start a watch on nothing. Raises `OSError`, as when this user has too many of them."""
        self._gone: set[int] = set()
        self._descriptor = _checked(_libc().inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def __enter__(self) -> Self:
        """Return the watch."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the watch."""
        self.close()

    def close(self) -> None:
        """Close the watch."""
        os.close(self._descriptor)

    def add(self, directory: str) -> int:
        """Watch *directory*; return the number by which it is known here. Raises `OSError`."""
        flags = _DELETE_SELF | _ONLY_DIRECTORIES | _NO_LINKS
        path = os.fsencode(directory)
        return _checked(_libc().inotify_add_watch(self._descriptor, path, flags), directory)

    def wait(self, numbers: Iterable[int], seconds: float) -> frozenset[int]:
        """Wait until the kernel has forgotten the directories of *numbers*, at most *seconds*.

        Returns the numbers of those that it has not forgotten.
        """
        expected = frozenset(numbers)
        deadline = time.monotonic() + seconds
        self._read()
        while not expected <= self._gone and (left := deadline - time.monotonic()) > 0:
            poll = select.poll()  # select() cannot wait for descriptors above 1,023
            poll.register(self._descriptor, select.POLLIN)
            poll.poll(left * 1000)
            self._read()
        remaining = expected - self._gone
        self._gone -= expected
        return remaining

    def _read(self) -> None:
        """Read the events that have come."""
        while True:
            try:
                data = os.read(self._descriptor, _ROOM)
            except BlockingIOError:
                return
            position = 0
            while position < len(data):
                number, mask, _, length = _EVENT.unpack_from(data, position)
                if mask & _DELETE_SELF:
                    self._gone.add(number)
                position += _EVENT.size + length


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, path: str | None = None) -> int:
    """Return the *result* of a call of the C library, or raise the `OSError` that it means."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)} (inotify)", path)
    return result
