"""The reading of workers' files into one buffer, which is used again for each file."""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from mpmetrics._opening import OPEN_FLAGS, require_regular
from mpmetrics.errors import DamagedError, TooLargeError
from mpmetrics.format import HEADER_SIZE, MOST_ENTRIES, check_entries, read_used

_FIRST_READ: Final = 1 << 14

_STEP: Final = 1 << 20
"""Bytes that are read of a file before it is looked at for holes; then they double."""

_CHECK_FROM: Final = 16 << 20
"""Used bytes of a file whose entries are checked in each step, as those of a file with a hole are.

For a smaller one that would take a third of the time of its first reading.
"""

_ZEROS: Final = bytes(_STEP)

_HOLE: Final = bytes(64)
"""More bytes of zero than there are between two keys, in which there are none."""


class Identity(NamedTuple):
    """The identity of a file and its last change: if it is equal, no key was rewritten.

    Writers change values through a memory map. Any other change of a file (its creation, a
    truncation, a `write` by another process) moves the change time, so a reader that remembers the
    layout of a file has to parse the keys again only when the identity differs. On a disk the
    kernel also moves it for the first change after it has written the page back: then the keys are
    parsed in vain. On a tmpfs it does not.
    """

    device: int
    inode: int
    changed_ns: int


class ReadBuffer:
    """A growing buffer that the files of a scrape are read into, one after the other.

    It uses plain reads instead of a memory map: a file that is truncated meanwhile gives a short
    read and not a SIGBUS, and pages that are already mapped cost nothing.
    """

    def __init__(self) -> None:
        """Make room for the used bytes of a small file; larger ones make the buffer grow."""
        self.data = bytearray(_FIRST_READ)

    def load(self, path: str, expected: int = 0) -> tuple[int, Identity]:
        """Open the file *path*, read its used bytes into `data`, and close it.

        *expected* is how many bytes were used at the last reading, which saves a second read.
        Returns how many bytes are used and the file's identity, taken before the reading. Raises
        `OSError`, or `DamagedError` when the file ends before its used bytes do.
        """
        descriptor = os.open(path, os.O_RDONLY | OPEN_FLAGS)
        try:
            return self.load_open(descriptor, path, expected)
        finally:
            os.close(descriptor)

    def load_open(self, descriptor: int, path: str, expected: int = 0) -> tuple[int, Identity]:
        """Read the used bytes of an open file into `data`, from its start, as `load` does."""
        status = require_regular(descriptor, path)
        used = self._fill(descriptor, expected or _FIRST_READ, status.st_size)
        return used, Identity(status.st_dev, status.st_ino, status.st_ctime_ns)

    def shrink(self, size: int) -> None:
        """Give back the memory of larger files, when no file has more than *size* used bytes."""
        if len(self.data) > max(2 * size, _STEP):
            del self.data[max(size, _FIRST_READ) :]

    def used_bytes(self, used: int) -> bytes:
        """Return a copy of the first *used* bytes of the file that was loaded last."""
        return bytes(memoryview(self.data)[:used])

    def _fill(self, descriptor: int, expected: int, size: int) -> int:
        """Read the used bytes of a file of *size* bytes; return how many bytes are used.

        The header counts the used bytes. The rest of the file is preallocated.
        """
        end = self._read(descriptor, 0, min(expected, size))
        used = read_used(self.data[: min(end, HEADER_SIZE)])
        if end == 0:  # an empty file has not even a header, and that of another must not stay here
            self.data[:HEADER_SIZE] = bytes(HEADER_SIZE)
        if used > end > 0:
            # The file may have grown since its size was taken. Check before reporting damage.
            size = os.fstat(descriptor).st_size
            if used <= size:
                end = self._read_on(descriptor, end, used)
            if used > end:
                raise DamagedError(end, f"{used} bytes are used, but the file ends at {size}")
        return used

    def _read_on(self, descriptor: int, end: int, used: int) -> int:
        """Read the used bytes from *end* on, in steps; return how many bytes there are.

        Raises `DamagedError` after the first step that reads something else than entries, and
        `TooLargeError` after the one that reads too many.
        """
        checked, entries = HEADER_SIZE, 0
        count = end
        while count and end < used:
            count = self._read(descriptor, end, min(used, max(_STEP, 2 * end)))
            hole = self.data.find(_HOLE, max(end - len(_HOLE), 0), end + count)
            end += count
            if hole >= 0 or used >= _CHECK_FROM:
                checked, more = check_entries(self.data, checked, end)
                entries += more
                if entries > MOST_ENTRIES:
                    raise TooLargeError(checked, f"it has more than {MOST_ENTRIES} entries")
        return end

    def _read(self, descriptor: int, start: int, stop: int) -> int:
        """Read the next bytes into `data` from *start* to *stop*; return how many there were."""
        while len(self.data) < stop:
            # Piece by piece: all at once would take the same memory a second time.
            self.data += _ZEROS[: stop - len(self.data)]
        done = start
        with memoryview(self.data) as view:
            while done < stop:
                count = _read_into(descriptor, view[done:stop])
                if count == 0:
                    break
                done += count
        return done - start


def _read_into(descriptor: int, view: memoryview) -> int:
    """Read at most as many bytes as *view* has room for; return how many were read."""
    if hasattr(os, "readv"):
        return os.readv(descriptor, [view])
    data = os.read(descriptor, len(view))
    view[: len(data)] = data
    return len(data)
