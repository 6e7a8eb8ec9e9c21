"""Space that is kept in reserve, so that compaction can free space in a directory that is full.

A compaction writes the new archive before it removes what it has folded, and on a full file system
that fails when it is needed most. So a long-lived compactor keeps some space in files of its own.
`release_reserve` removes them at the moment at which a write fails for lack of space, and what was
kept is free for that write. After the compaction `refill_reserve` makes them again, as soon as
there is room for more than them.

Several files are kept, since a file system can also run out of inodes, and a compaction makes files
and directories. All bytes are in the first one.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from mpmetrics.directory.files import OWN_PREFIX, FileName
from mpmetrics.system import measure_space

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpmetrics.system import Space

_PREFIX: Final = f"{OWN_PREFIX}reserve-"

_FILES: Final = 8
"""How many files are kept. To fold one file takes three directories that prove that it is not being
opened, and on a tmpfs an inode for its second name; and there are the new archive and MANIFEST."""

_SHARE_OF_INODES: Final = 8
"""One of so many inodes of the file system is kept at most."""

_SMALLEST: Final = 64 << 10
_LARGEST: Final = 16 << 20
"""Bytes that are kept at least and at most."""

_GROWTH: Final = 2
"""How many times the bytes of the present archives are kept for the next ones."""

_MARGIN: Final = 16 << 10
"""Bytes that a compaction needs beside those of its archives, for MANIFEST and for growth."""

_SHARE: Final = 16
_MOST: Final = 4
"""One of so many bytes of the file system is kept at most: more, up to one of the second number,
only if the archives need them."""

_allocate: Final[Callable[[int, int, int], None] | None] = getattr(os, "posix_fallocate", None)


def refill_reserve(directory: str, measure: Callable[[str], Space | None] = measure_space) -> int:
    """Keep space in the *directory*, as far as there is room; return how many bytes are kept.

    Half of what is free is left to the workers, but the next compaction comes first: without it
    the space of dead workers is never free again. *measure* measures the file system.
    """
    space = measure(directory)
    if space is None or _allocate is None:
        return 0
    kept = _kept_bytes(directory)
    wanted = _choose_size(space, _archived_bytes(directory), kept)
    count = min(_FILES, space.inodes // _SHARE_OF_INODES) if space.inodes else 1
    missing = [path for path in _paths(directory)[:count] if not os.path.lexists(path)]
    if space.inodes and space.free_inodes < len(missing):
        missing = missing[: space.free_inodes]
    try:
        for path in missing if kept or wanted else ():
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        if kept < wanted:
            _allocate_bytes(_paths(directory)[0], wanted)
    except OSError:  # other processes were quicker
        release_reserve(directory)
        return 0
    return max(kept, wanted)


def _choose_size(space: Space, archived: int, kept: int) -> int:
    """Choose how many bytes to keep, beside archives of so many bytes (*archived*)."""
    needed = min(archived + _MARGIN, space.size // _MOST)
    best = max(needed, min(max(_SMALLEST, _GROWTH * archived), _LARGEST, space.size // _SHARE))
    free = space.free + kept
    return min(best, max(needed, free // 2)) if free >= needed else 0


def release_reserve(directory: str) -> bool:
    """Free the space that is kept in the *directory*; return whether any was."""
    is_released = False
    for path in _paths(directory):
        if _is_file(path):
            with suppress(OSError):
                os.unlink(path)
                is_released = True
    return is_released


def has_reserve(directory: str) -> bool:
    """Return whether space is kept in the *directory*."""
    return any(map(_is_file, _paths(directory)))


def _paths(directory: str) -> list[str]:
    return [os.path.join(directory, f"{_PREFIX}{number}") for number in range(_FILES)]


def _is_file(path: str) -> bool:
    """Return whether *path* is a regular file: whatever else has such a name is not ours."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _kept_bytes(directory: str) -> int:
    """Return how many bytes are kept in the *directory*."""
    path = _paths(directory)[0]
    try:
        return os.lstat(path).st_blocks * 512 if _is_file(path) else 0
    except OSError:
        return 0


def _allocate_bytes(path: str, size: int) -> None:
    """Have the file *path* take *size* bytes of the file system. Raises `OSError`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and _allocate is not None:
            _allocate(descriptor, 0, size)
    finally:
        os.close(descriptor)


def _archived_bytes(directory: str) -> int:
    """Return how many bytes the archives in the *directory* have."""
    size = 0
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            name = FileName.parse(entry.name)
            if name is not None and name.is_archive:
                size += entry.stat(follow_symlinks=False).st_size
    return size
