"""Locks on a directory, which the kernel takes back when their holder ends.

A lock is on a file, and that file stays: if it were removed, a process that still waits for the
old file and one that makes a new file could both have the lock.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from mpmetrics.directory.files import OWN_PREFIX

if TYPE_CHECKING:
    from filelock import BaseFileLock

_COMPACTION: Final = f"{OWN_PREFIX}compaction.lock"


def make_lock(path: str) -> BaseFileLock:
    """Return a lock, not yet taken, on the file *path*; any thread may release it.

    Taking it raises `filelock.Timeout`, a `TimeoutError`, when another process has the lock for
    too long, and another `OSError` where this user may not write.
    """
    from filelock import FileLock  # noqa: PLC0415 - it takes 10 ms, and most readers need no lock

    return FileLock(path, thread_local=False)


def make_compaction_lock(directory: str) -> BaseFileLock:
    """Return the lock, not yet taken, that a compactor of *directory* holds while it works.

    Raises `OSError` when there is no such directory: taking the lock would make it, and a
    directory that has been removed must stay removed. See `make_lock` for what taking it raises.
    """
    os.stat(directory)
    return make_lock(os.path.join(directory, _COMPACTION))
