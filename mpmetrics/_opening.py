"""The opening of files that other programs have made, or that a user names.

Opening or reading a named pipe, a device or a leased file can wait for ever, and a device may have
no end. So a file in a directory is opened without waiting, and has to be a regular file, whatever
its name is. A file that a user names may also be a pipe, such as that of ``<(…)`` in a shell, which
has a limited time to be read to its end.
"""

from __future__ import annotations

import errno
import os
import selectors
import stat
import time
from typing import Final

from mpmetrics.errors import NotAMetricsFileError

OPEN_FLAGS: Final = sum(
    getattr(os, flag, 0) for flag in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY", "O_NOCTTY")
)
"""The flags of `os.open` by which no opening waits, and no child inherits the descriptor."""

_LARGEST: Final = 1 << 20
"""Bytes of the largest file that a user may name."""

_PATIENCE: Final = 10.0
"""Seconds in which a pipe that a user names has to end."""


def open_regular(path: str, flags: int = os.O_RDONLY) -> int:
    """Open the regular file *path* without waiting; return the descriptor.

    *flags* are those of `os.open`. Symbolic links are followed unless they have `O_NOFOLLOW`.
    Raises `NotAMetricsFileError`, an `OSError`, for anything but a regular file, `BlockingIOError`
    for a file on which another process has a lease, and another `OSError` otherwise.
    """
    descriptor = os.open(path, flags | OPEN_FLAGS)
    try:
        require_regular(descriptor, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def require_regular(descriptor: int, path: str) -> os.stat_result:
    """Return the status of the open file *path*. Raises `NotAMetricsFileError` if not regular."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise NotAMetricsFileError(path)
    return status


def read_regular(path: str, limit: int) -> bytes:
    """Return the content of the regular file *path*, *limit* bytes of it at most.

    Raises what `open_regular` raises.
    """
    descriptor = open_regular(path)
    try:
        return _read(descriptor, limit)
    finally:
        os.close(descriptor)


def read_named_file(path: str, *, limit: int = _LARGEST, patience: float = _PATIENCE) -> bytes:
    """Return the content of the file or pipe *path* that a user names.

    Raises `OSError` if it is neither, if it has more than *limit* bytes, if a pipe is not at its
    end within *patience* seconds, or if a pipe is empty.
    """
    descriptor = os.open(path, os.O_RDONLY | OPEN_FLAGS)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode):
            data = _read(descriptor, limit + 1)
        elif stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            data = _read_pipe(descriptor, path, limit + 1, patience)
        else:
            raise OSError(errno.EINVAL, "neither a file nor a pipe", path)
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit} bytes", path)
    return data


def write_named_file(path: str, data: bytes, *, patience: float = _PATIENCE) -> None:
    """Write *data* to the file, pipe or device *path* that a user names; a file is replaced.

    Raises `OSError` if it cannot be written, if no process reads a pipe, or if it is not read
    within *patience* seconds.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | OPEN_FLAGS
    descriptor = os.open(path, flags, 0o666)
    try:
        deadline = time.monotonic() + patience
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(descriptor, view) :]
            except BlockingIOError:
                left = deadline - time.monotonic()
                if left <= 0 or not _wait(descriptor, left, selectors.EVENT_WRITE):
                    raise OSError(
                        errno.ETIMEDOUT, f"the pipe is not read within {patience:g} s", path
                    ) from None
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(descriptor)


def _read(descriptor: int, limit: int) -> bytes:
    """Read a file to its end, or *limit* bytes."""
    data = bytearray()
    while len(data) < limit and (more := os.read(descriptor, min(limit - len(data), 1 << 16))):
        data += more
    return bytes(data)


def _read_pipe(descriptor: int, path: str, limit: int, patience: float) -> bytes:
    """Read a pipe to its end, or *limit* bytes."""
    data = bytearray()
    deadline = time.monotonic() + patience
    while len(data) < limit:
        left = deadline - time.monotonic()
        if left <= 0 or not _wait(descriptor, left):
            raise OSError(errno.ETIMEDOUT, f"the pipe does not end within {patience:g} s", path)
        more = os.read(descriptor, limit - len(data))
        if not more:
            break
        data += more
    if not data:
        raise OSError(errno.ENODATA, "nothing was written to the pipe", path)
    return bytes(data)


def _wait(descriptor: int, seconds: float, event: int = selectors.EVENT_READ) -> bool:
    """Wait until a pipe is ready for the *event*, or is at its end; else return False.

    The wait ends after so many *seconds*.
    """
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, event)
        return bool(selector.select(seconds))
