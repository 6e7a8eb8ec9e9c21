"""On which file system a path lies, and how much room there is.

`/proc/self/mountinfo` (proc(5)) has a line for each mount, with fields between blanks::

    36 35 98:0 /root /point rw,noatime shared:1 - ext4 /dev/sda1 rw
    id parent         point                       kind
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOUNTINFO: Final = "/proc/self/mountinfo"
_ID, _PARENT, _POINT = 0, 1, 4
_OCTAL_ESCAPE: Final = re.compile(r"\\([0-7]{3})")


NETWORK_KINDS: Final = (
    *("9p", "afs", "beegfs", "ceph", "cifs", "fuse", "gfs2", "glusterfs", "gpfs", "lustre"),
    *("ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs"),
)
"""File systems behind which another machine may stand; of "fuse.sshfs" the first part counts."""


class Mount(NamedTuple):
    """A mounted file system: its *id*, that of its *parent*, where (*point*) and what (*kind*)."""

    id: str
    parent: str
    point: str
    kind: str

    @property
    def is_networked(self) -> bool:
        """Whether another machine may have its files open, and this one would not know."""
        return self.kind.partition(".")[0] in NETWORK_KINDS


class Space(NamedTuple):
    """How many bytes a file system has, and how many of them are *free* to use."""

    size: int
    free: int


def find_mount(path: str) -> Mount | None:
    """Return the mount that *path* lies on, None where the system does not tell."""
    try:
        with open(_MOUNTINFO, "rb") as file:
            text = os.fsdecode(file.read())
    except OSError:
        return None
    return resolve_mount(parse_mountinfo(text), os.path.realpath(path))


def measure_space(path: str) -> Space | None:
    """Return the space of the file system that *path* lies on, None if it is not known."""
    try:
        status = os.statvfs(path)
    except (AttributeError, OSError):  # Windows has no such function
        return None
    size, free = status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize
    return Space(size, free) if size else None


def parse_mountinfo(text: str) -> list[Mount]:
    """Return the mounts that the *text* of a `mountinfo` file lists, in its order."""
    mounts = []
    for line in text.split("\n"):
        before, separator, after = line.partition(" - ")
        if separator:
            fields = before.split(" ")
            point = _OCTAL_ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[_POINT])
            mounts.append(Mount(fields[_ID], fields[_PARENT], point, after.split(" ")[0]))
    return mounts


def resolve_mount(mounts: Sequence[Mount], path: str) -> Mount | None:
    """Return which of the *mounts* the absolute, real *path* lies on.

    Follows the path down the tree of mounts, as the kernel does: neither the order of the lines
    nor the length of the points says which mount hides which.
    """
    found = None
    # The parent of the root is outside, or the root itself.
    inside = {mount.id for mount in mounts if mount.parent != mount.id}
    below = [mount for mount in mounts if _covers(mount.point, path)]
    children = [mount for mount in below if mount.parent not in inside]
    while children:
        # Of two below one parent, the upper one is met first and hides the lower one.
        found = min(children, key=lambda mount: len(mount.point))
        below.remove(found)
        children = [mount for mount in below if mount.parent == found.id]
    return found


def _covers(point: str, path: str) -> bool:
    """Tell whether *path* is the mount *point* or lies below it."""
    return path == point or path.startswith(point.rstrip("/") + "/")
