"""Changes of a directory that are complete or absent, wherever the process is killed."""

from __future__ import annotations

import errno
import os
from typing import Final

from mpmetrics.directory.ownership import Ownership
from mpmetrics.directory.reserve import release_reserve

# No other user may open the file before it has its owner.
_MODE: Final = 0o600

_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)


def write_new_file(path: str, data: bytes, ownership: Ownership | None = None) -> None:
    """Write *data* to a new file at *path* and wait until it is on the disk. Raises `OSError`.

    It belongs to whom *ownership* says, by default to whom a file in its directory belongs.
    Without space left, the reserve of the directory is released first. A file that could not be
    written completely is removed again.
    """
    ownership = ownership or Ownership.like(os.path.dirname(path) or os.curdir)
    try:
        _write_new_file(path, data, ownership)
    except OSError as error:
        if error.errno not in _NO_SPACE or not release_reserve(os.path.dirname(path)):
            raise
        _write_new_file(path, data, ownership)


def _write_new_file(path: str, data: bytes, ownership: Ownership) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    try:
        try:
            ownership.apply(descriptor)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        os.unlink(path)
        raise


def sync_directory(path: str) -> None:
    """Wait until the names in the directory *path* are on the disk. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename_if_free(source: str, target: str) -> bool:
    """Rename *source* to *target* unless *target* exists; return whether it was renamed.

    For a moment the file has both names. Raises `OSError`.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    os.unlink(source)
    return True


def find_free_name(path: str) -> str:
    """Return *path*, or if that exists, *path* with the first number behind it that is free.

    Raises `OSError` when no file can have that name, as when it is too long.
    """
    number = 0
    candidate = path
    while _exists(candidate):
        number += 1
        candidate = f"{path}.{number}"
    return candidate


def _exists(path: str) -> bool:
    """Return whether anything is called *path*.

    `os.path.lexists` would not do: it returns False also for a name that is too long.

    Raises `OSError`.
    """
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True
