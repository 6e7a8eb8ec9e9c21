"""The move of a file to a name that must not be taken, by renameat2(2). Linux only."""

from __future__ import annotations

import ctypes
import errno
import os
from functools import cache
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from collections.abc import Callable

_AT_FDCWD: Final = -100
_NO_REPLACE: Final = 1


def move_without_replacing(source: str, target: str) -> None:
    """Move *source* to *target* in one step.

    Raises `FileExistsError` if *target* exists, another `OSError` if it cannot be moved: with
    `ENOSYS` or `EINVAL` if the C library or the file system has no such operation.
    """
    move = _renameat2()
    if move is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), source)
    if move(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _NO_REPLACE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), source)


@cache
def _renameat2() -> Callable[..., int] | None:
    """Return the function of the C library, which old ones lack, or None."""
    library = ctypes.CDLL(None, use_errno=True)
    return cast("Callable[..., int] | None", getattr(library, "renameat2", None))
