"""When a directory was made, by Linux's statx(2), which Python does not offer.

An inode number alone does not identify a directory over time: the next one that is made often has
the number of the last one that was removed. The two together do.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from typing import Any, Final

_AT_FDCWD: Final = -100
_STATX_BTIME: Final = 0x800
_SIZE: Final = 256
"""Bytes of `struct statx`, of which all later versions are."""

_MASK: Final = struct.Struct("I")
_BTIME: Final = struct.Struct("qI")
_BTIME_AT: Final = 80

_libc: Final[Any] = ctypes.CDLL(None) if sys.platform == "linux" else None
_statx: Final[Any] = getattr(_libc, "statx", None)


def read_birth(path: str) -> int:
    """Return when *path* was made, in nanoseconds since 1970; 0 if that is not known."""
    if _statx is None:
        return 0
    found = ctypes.create_string_buffer(_SIZE)
    if _statx(_AT_FDCWD, os.fsencode(path), 0, _STATX_BTIME, found) != 0:
        return 0
    (mask,) = _MASK.unpack_from(found)
    seconds, nanoseconds = _BTIME.unpack_from(found, _BTIME_AT)
    return int(seconds * 1_000_000_000 + nanoseconds) if mask & _STATX_BTIME else 0
