"""The claim of one run on a directory that a user has named.

Two runs must not share a directory, whatever they call it, and whatever the server does with it. So
two things are locked. The directory itself, which has one identity under all of its names. And a
file beside it: if the server removes the directory and makes another one, that has a new identity,
but the old name.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import Final

from mpmetrics.directory.files import OWN_PREFIX
from mpmetrics.directory.locks import HAS_FLOCK, IN_USE, lock_descriptor
from mpmetrics.errors import RunDirectoryError

_INSIDE: Final = f"{OWN_PREFIX}run.lock"
"""The name of a lock file in the directory, where directories themselves cannot be locked."""

_FLAGS: Final = sum(
    getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY")
)
_ATTEMPTS: Final = 10


class Claim:
    """The claim of this process on the directory *path*, until `release`."""

    def __init__(self, path: str) -> None:
        """Claim the directory. Raises `RunDirectoryError` if another run has it."""
        self.path = os.path.realpath(path)
        self._called = path
        parent, name = os.path.split(self.path)
        self._beside = os.path.join(parent, f"{OWN_PREFIX}{name}.run.lock")
        self._lock_beside = self._lock_itself = -1
        self._identity: tuple[int, int] | None = None
        try:
            self._lock_beside = self._take_beside()
            self._lock_itself = self._take_itself()
        except BaseException:
            self.release()
            raise

    @property
    def is_held(self) -> bool:
        """Whether the directory that has the name now is locked."""
        return self._identity is not None and self._identity == identify(self.path)

    def renew(self) -> None:
        """Claim the directory that has the name now. Raises `RunDirectoryError`."""
        lock = self._take_itself()
        _close(self._lock_itself)
        self._lock_itself = lock

    def release(self) -> None:
        """Give the directory up; more than once is harmless."""
        if self._lock_beside >= 0:
            with suppress(OSError):
                if _is_open_on(self._beside, self._lock_beside) and _is_ours(self._lock_beside):
                    os.unlink(self._beside)
        _close(self._lock_beside)
        _close(self._lock_itself)
        self._lock_beside = self._lock_itself = -1

    def _take_beside(self) -> int:
        """Lock the file beside the directory; return its descriptor, -1 where there can be none.

        A file of a third user counts for nothing: everyone may make one in a directory as `/tmp`.
        So does one that is not empty: no run has made it.
        """
        for _ in range(_ATTEMPTS):
            try:
                lock = os.open(self._beside, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
            except OSError:
                return -1
            try:
                if not HAS_FLOCK or not _is_ours(lock):
                    os.close(lock)
                    return -1
                is_locked = lock_descriptor(lock)
            except OSError:
                os.close(lock)
                return -1
            if not is_locked:
                os.close(lock)
                raise RunDirectoryError(self._called, IN_USE)
            # Who had it before has deleted it: then it locks nothing.
            if _is_open_on(self._beside, lock):
                return lock
            os.close(lock)
        return -1

    def _take_itself(self) -> int:
        """Lock the directory; return the descriptor of the lock. Raises `RunDirectoryError`."""
        try:
            lock = os.open(self.path, os.O_RDONLY | _FLAGS)
            self._identity = identify(self.path)
        except OSError as error:
            raise RunDirectoryError(self._called, error.strerror or str(error)) from error
        try:
            is_locked = lock_descriptor(lock)
        except OSError:  # as on NFS, where a lock needs a file that may be written
            os.close(lock)
            return self._take_inside()
        if is_locked:
            return lock
        os.close(lock)
        raise RunDirectoryError(self._called, IN_USE)

    def _take_inside(self) -> int:
        """Lock a file in the directory; return its descriptor. Raises `RunDirectoryError`."""
        lock = -1
        try:
            lock = os.open(os.path.join(self.path, _INSIDE), os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
            if lock_descriptor(lock):
                return lock
        except OSError as error:
            _close(lock)
            raise RunDirectoryError(self._called, error.strerror or str(error)) from error
        os.close(lock)
        raise RunDirectoryError(self._called, IN_USE)


def identify(path: str) -> tuple[int, int] | None:
    """Return device and inode of *path*, which change when it is replaced; None if it is gone."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_ours(descriptor: int) -> bool:
    """Return whether a run of this user or of root may have made that file: it is empty."""
    status = os.fstat(descriptor)
    is_empty_file = stat.S_ISREG(status.st_mode) and status.st_size == 0
    return is_empty_file and status.st_uid in {os.geteuid(), 0}


def _is_open_on(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _close(descriptor: int) -> None:
    if descriptor >= 0:
        os.close(descriptor)
