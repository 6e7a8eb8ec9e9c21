"""Locks on a directory, which the kernel takes back when their holder ends.

A lock is on a file, and a compactor's file stays: if it were removed, a process that still waits
for the old file and one that makes a new file could both have the lock.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from mpmetrics.directory.files import OWN_PREFIX
from mpmetrics.directory.ownership import Ownership
from mpmetrics.errors import NotAMetricsFileError

if TYPE_CHECKING:
    from filelock import BaseFileLock

try:
    import fcntl
except ImportError:
    HAS_FLOCK = False
    """Whether this system has locks of flock(2)."""
else:
    HAS_FLOCK = True

IN_USE: Final = "another mpmetrics run uses it"
"""Why a run does not get a directory that another one has locked."""

_COMPACTION: Final = f"{OWN_PREFIX}compaction.lock"


def make_lock(path: str) -> BaseFileLock:
    """Return a lock, not yet taken, on the file *path*; any thread may release it.

    Take it with `try_lock`. Raises `NotAMetricsFileError` when there is something else than a
    file: filelock would truncate what a symbolic link leads to.
    """
    _require_regular_if_there(path)
    from filelock import FileLock  # noqa: PLC0415 - it takes 10 ms, and most readers need no lock

    mode = _prepare_lock(path)
    return FileLock(path, mode=mode, thread_local=False)


def make_compaction_lock(directory: str) -> BaseFileLock:
    """Return the lock, not yet taken, that a compactor of *directory* holds while it works.

    Raises `OSError` when there is no such directory: taking the lock would make it, and a
    directory that has been removed must stay removed. Take it with `try_lock`.
    """
    os.stat(directory)
    return make_lock(os.path.join(directory, _COMPACTION))


def try_lock(lock: BaseFileLock, *, timeout: float = 0) -> bool:
    """Take *lock* within *timeout* seconds; return False when another process has it till then.

    Raises `OSError`. A file server that does not answer (`ETIMEDOUT`) is an error, not a process
    that has the lock.
    """
    from filelock import Timeout  # noqa: PLC0415 - as above

    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        return False
    return True


def lock_descriptor(descriptor: int) -> bool:
    """Lock the open file or directory of *descriptor* by flock(2); return False if it is locked.

    The lock lasts until every copy of the descriptor is closed, those of forked children included.
    Raises `OSError`, also where the file system has no such locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _prepare_lock(path: str) -> int:
    """Make the file *path* for all users who may change its directory; return its mode.

    A file of another owner, which root has left there, gets the right one as soon as root comes
    again. What is not possible here is an error when the lock is taken. Raises `OSError` if the
    directory is missing.
    """
    ownership = Ownership.like(os.path.dirname(path) or os.curdir)
    flags = os.O_RDWR | sum(getattr(os, flag, 0) for flag in ("O_NOFOLLOW", "O_CLOEXEC"))
    with suppress(OSError):
        try:
            descriptor = os.open(path, flags)
        except FileNotFoundError:
            descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            ownership.apply(descriptor)
        finally:
            os.close(descriptor)
    return ownership.mode


def _require_regular_if_there(path: str) -> None:
    """Raise `NotAMetricsFileError` if *path* is there and is not a regular file itself."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise NotAMetricsFileError(path)
