"""On which file system a path lies (proc(5), `/proc/self/mountinfo`)."""

from __future__ import annotations

import os
import re
from typing import NamedTuple


class Mount(NamedTuple):
    """A mounted file system: where (*point*) and of which type (*kind*)."""

    point: str
    kind: str


def mount_of(path: str) -> Mount | None:
    """Return the mount that *path* lies on, None where the system does not tell."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
            mounts = parse_mountinfo(lines.read())
    except OSError:
        return None
    real = os.path.realpath(path)
    # A later mount at the same point covers the earlier one.
    covering = [mount for mount in mounts if _contains(mount.point, real)]
    return max(enumerate(covering), key=lambda item: (len(item[1].point), item[0]))[1] if covering else None


def parse_mountinfo(text: str) -> list[Mount]:
    """Return the mounts that the *text* of a `mountinfo` file lists, in its order."""
    mounts = []
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        fields = before.split()
        if separator and len(fields) > _POINT and after.split():
            mounts.append(Mount(_unescaped(fields[_POINT]), after.split()[0]))
    return mounts


_POINT = 4
"""The field, counted from zero, that has the mount point."""


def _contains(point: str, path: str) -> bool:
    return point == "/" or path == point or path.startswith(point + "/")


def _unescaped(field: str) -> str:
    """Replace the octal escapes that stand for blanks and backslashes."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
