"""A directory that is open: what is done in it cannot be led elsewhere by a link.

The owner of a directory may replace it, or one inside it, by a symbolic link at any moment. Where
the system can open directories, names are looked up in the open one instead.
"""

from __future__ import annotations

import os
import stat
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import TracebackType


_CAN_OPEN: Final = {os.open, os.unlink, os.rmdir, os.stat} <= os.supports_dir_fd

_FLAGS: Final = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_NOFOLLOW"))


class OpenDirectory(AbstractContextManager["OpenDirectory"]):
    """The directory *path*, open until `close`; its last part may not be a symbolic link.

    With a *parent*, it is the entry *path* of that. All methods raise `OSError`.
    """

    def __init__(self, path: str, parent: OpenDirectory | None = None) -> None:
        """Open the directory. Raises `OSError`."""
        self.path: str = os.path.join(parent.path, path) if parent else path
        self.descriptor = -1
        if _CAN_OPEN:
            flags = os.O_RDONLY | _FLAGS | getattr(os, "O_DIRECTORY", 0)
            within = parent.descriptor if parent else None
            self.descriptor = os.open(path, flags, dir_fd=within)
        elif not os.path.isdir(self.path):
            raise FileNotFoundError(self.path)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close it; more than once is harmless."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def status(self) -> os.stat_result:
        """Return the status of the directory itself."""
        return os.fstat(self.descriptor) if _CAN_OPEN else os.stat(self.path)

    def names(self) -> list[str]:
        """List the names in it."""
        return sorted(os.listdir(self.descriptor if _CAN_OPEN else self.path))

    def has_file(self, name: str) -> bool:
        """Return whether *name* is a regular file, not a link to one."""
        where, within = self._locate(name)
        try:
            status = os.stat(where, dir_fd=within, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return stat.S_ISREG(status.st_mode)

    def has_open(self, name: str, descriptor: int) -> bool:
        """Return whether *name* is the file that *descriptor* is open on."""
        where, within = self._locate(name)
        try:
            status = os.stat(where, dir_fd=within, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(status, os.fstat(descriptor))

    def open_file(self, name: str, flags: int) -> int:
        """Open the file *name*; return its descriptor. A new file is for this user alone."""
        where, within = self._locate(name)
        return os.open(where, flags | _FLAGS, 0o600, dir_fd=within)

    def unlink(self, name: str) -> None:
        """Delete the file *name*."""
        where, within = self._locate(name)
        os.unlink(where, dir_fd=within)

    def rmdir(self, name: str) -> None:
        """Delete the empty directory *name*."""
        where, within = self._locate(name)
        os.rmdir(where, dir_fd=within)

    def give(self, uid: int, gid: int, mode: int) -> None:
        """Give the directory to the user *uid* and the group *gid*, if it is this user's own."""
        if self.status().st_uid in {os.geteuid(), uid}:
            os.fchown(self.descriptor, uid, gid)
            os.fchmod(self.descriptor, mode)

    def _locate(self, name: str) -> tuple[str, int | None]:
        """Return what functions of `os` take for the entry *name*: a path, and `dir_fd`."""
        return (name, self.descriptor) if _CAN_OPEN else (os.path.join(self.path, name), None)
