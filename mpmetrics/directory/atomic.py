"""Changes of a directory that are complete or absent, wherever the process is killed."""

from __future__ import annotations

import errno
import os
from typing import Final

from mpmetrics.directory.reserve import release_reserve

# The umask decides who may read a worker's file, and so it does for the files made of those.
_MODE: Final = 0o666

_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)


def write_new_file(path: str, data: bytes) -> None:
    """Write *data* to a new file at *path* and wait until it is on the disk. Raises `OSError`.

    Without space left, the reserve of the directory is released first. A file that could not be
    written completely is removed again.
    """
    try:
        _write_new_file(path, data)
    except OSError as error:
        if error.errno not in _NO_SPACE or not release_reserve(os.path.dirname(path)):
            raise
        _write_new_file(path, data)


def _write_new_file(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    try:
        try:
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
