"""The file system that a path lies on, and its free space.

`/proc/self/mountinfo` (proc(5)) has a line for each mount, with fields between blanks::

    36 35 98:0 /root /point rw,noatime shared:1 - ext4 /dev/sda1 rw
    id parent         point                       kind

psutil cannot be used instead: it has neither the ids of mounts nor their parents, and without them
a mount that another one hides cannot be told from the one that counts. It is also not needed by
readers.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics._text import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MOUNTINFO: Final = "/proc/self/mountinfo"
_ID, _PARENT, _POINT = 0, 1, 4
_OCTAL_ESCAPE: Final = re.compile(r"\\([0-7]{3})")


NETWORK_KINDS: Final = (
    *("9p", "afs", "beegfs", "ceph", "cifs", "fuse", "gfs2", "glusterfs", "gpfs", "lustre"),
    *("ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs"),
)
"""The file systems that other machines may use, too; of "fuse.sshfs" the first part counts."""


_PAGE: Final = 4096
"""Bytes that a process needs at once: the kernel takes space in pages of memory."""


class Mount(NamedTuple):
    """A mounted file system: its *id*, its *parent*'s, its mount *point*, and its type (*kind*)."""

    id: str
    parent: str
    point: str
    kind: str

    @property
    def is_networked(self) -> bool:
        """Whether another machine may have files open without this kernel knowing it."""
        return self.kind.partition(".")[0] in NETWORK_KINDS


class Space(NamedTuple):
    """The *size* of a file system in bytes, and how many of them are *free* to use.

    *inodes* is how many files it can have, and *free_inodes* how many more it can take; both are 0
    where that has no limit.
    """

    size: int
    free: int
    inodes: int = 0
    free_inodes: int = 0

    @property
    def is_full(self) -> bool:
        """Whether no more can be written: no page of memory is left, or no inode."""
        return self.has_no_page or self.has_no_inode

    @property
    def has_no_page(self) -> bool:
        """Whether no page of memory is left: a write to a mapped file is then a SIGBUS."""
        return self.free < _PAGE

    @property
    def has_no_inode(self) -> bool:
        """Whether no file can be made: that is the error ENOSPC."""
        return bool(self.inodes and not self.free_inodes)

    def describe(self) -> str:
        """Return how much is free, as a phrase with numbers."""
        free = f"{format_bytes(self.free)} of {format_bytes(self.size)}"
        if self.inodes:
            free += f" and {self.free_inodes:,} of {self.inodes:,} inodes"
        return f"{free} are free"


def find_mount(path: str, mountinfo: str = MOUNTINFO) -> Mount | None:
    """Return the mount that *path* lies on, None if the file *mountinfo* cannot be read."""
    try:
        with open(mountinfo, "rb") as file:
            text = os.fsdecode(file.read())
    except OSError:
        return None
    return resolve_mount(parse_mountinfo(text), os.path.realpath(path))


_STATVFS: Final[Callable[[str], os.statvfs_result] | None] = getattr(os, "statvfs", None)
"""The function of statvfs(3), which Windows does not have."""


def measure_space(
    path: str, statvfs: Callable[[str], os.statvfs_result] | None = _STATVFS
) -> Space | None:
    """Return the space of the file system that *path* lies on, None if it is not known."""
    if statvfs is None:
        return None
    try:
        status = statvfs(path)
    except OSError:
        return None
    size, free = status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize
    return Space(size, free, status.f_files, status.f_favail) if size else None


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
    """Return that one of the *mounts* which the absolute, real *path* lies on.

    It follows the path down the tree of mounts, as the kernel does: which mount hides which follows
    neither from the order of the lines nor from the length of the mount points.
    """
    found = None
    # The parent of the root mount is a mount that is not listed, or the root mount itself.
    inside = {mount.id for mount in mounts if mount.parent != mount.id}
    below = [mount for mount in mounts if _covers(mount.point, path)]
    children = [mount for mount in below if mount.parent not in inside]
    while children:
        # Of two mounts with one parent, the path meets the one with the shorter point first, and
        # that one hides the other.
        found = min(children, key=lambda mount: len(mount.point))
        below.remove(found)
        children = [mount for mount in below if mount.parent == found.id]
    return found


def _covers(point: str, path: str) -> bool:
    """Return whether *path* is the mount *point* or lies below it."""
    return path == point or path.startswith(point.rstrip("/") + "/")
