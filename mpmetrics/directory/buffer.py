"""The bytes of a worker's file, read into one buffer that is reused."""

from __future__ import annotations

import os
import stat
from typing import Final, NamedTuple

from mpmetrics.errors import DamagedError, NotAMetricsFileError
from mpmetrics.format import HEADER_SIZE, read_used

# Opening a named pipe for reading would wait for a writer; with O_NONBLOCK it does not.
_OPEN_FLAGS: Final = os.O_RDONLY | sum(
    getattr(os, flag, 0) for flag in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY")
)

_FIRST_READ: Final = 1 << 14


class Identity(NamedTuple):
    """Which file this is, and since when: equal identities mean that no key was rewritten.

    Writers change values through a memory map. Whatever else changes a file (its creation, a
    truncation, a `write` by somebody else) moves the change time, so a reader that remembers the
    layout of a file need look at the keys again only when the identity is another one. On a disk
    the kernel also moves it for the first change after it has written the page back: then keys
    are looked at in vain. On a tmpfs it does not.
    """

    device: int
    inode: int
    changed_ns: int


class ReadBuffer:
    """One growing buffer that every file of a scrape is read into, in turn.

    Plain reads instead of a memory map: a file that is truncated meanwhile gives a short read
    and not a SIGBUS, and pages that are already mapped cost nothing.
    """

    def __init__(self) -> None:
        """Start with room for a file of the size that writers preallocate."""
        self.data = bytearray(_FIRST_READ)

    def load(self, path: str, expected: int = 0) -> tuple[int, Identity]:
        """Read the used bytes of the file *path* into `data`; the descriptor is closed again.

        *expected* is the size in bytes at the last reading, to spare a second read. Returns how
        many bytes are used and the file's identity, taken before the reading. Raises `OSError`,
        or `DamagedError` when the file ends before its used bytes do.
        """
        descriptor = os.open(path, _OPEN_FLAGS)
        try:
            return self.load_open(descriptor, path, expected)
        finally:
            os.close(descriptor)

    def load_open(self, descriptor: int, path: str, expected: int = 0) -> tuple[int, Identity]:
        """Do what `load` does with a file that is open already, and read from the start."""
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotAMetricsFileError(path)
        used = self._fill(descriptor, expected or _FIRST_READ, status.st_size)
        return used, Identity(status.st_dev, status.st_ino, status.st_ctime_ns)

    def used_bytes(self, used: int) -> bytes:
        """Return a copy of the first *used* bytes of the file that was loaded last."""
        return bytes(memoryview(self.data)[:used])

    def _fill(self, descriptor: int, expected: int, size: int) -> int:
        """Read the header and what it counts as used, the rest of the *size* is preallocated."""
        end = self._read(descriptor, 0, min(expected, size))
        used = read_used(self.data[: min(end, HEADER_SIZE)])
        if used > end > 0:
            # The file may have grown since its size was taken: ask again before blaming it.
            size = os.fstat(descriptor).st_size
            if used <= size:
                end += self._read(descriptor, end, used)
            if used > end:
                raise DamagedError(end, f"{used} bytes are used, but the file ends at {size}")
        return used

    def _read(self, descriptor: int, start: int, stop: int) -> int:
        """Read on from *start* to *stop*, as far as the file goes; return how many bytes."""
        if stop > len(self.data):
            self.data.extend(bytes(stop - len(self.data)))
        done = start
        with memoryview(self.data) as view:
            while done < stop:
                count = _read_into(descriptor, view[done:stop])
                if count == 0:
                    break
                done += count
        return done - start


def _read_into(descriptor: int, view: memoryview) -> int:
    """Read from *descriptor* as much as *view* has room for, or less; return how much."""
    if hasattr(os, "readv"):
        return os.readv(descriptor, [view])
    data = os.read(descriptor, len(view))
    view[: len(data)] = data
    return len(data)
