"""Whom a new file belongs to, and who may read it: as what it is made of, no matter who makes it.

A compaction by root, as from cron, must not leave files behind that the application cannot read or
replace. So a new file belongs to the user who has the directory. Only in a directory of root's,
which other users may write to, it belongs to the user of the files that it is made of. Its mode
lets every user read it who could read one of those files, and does not depend on the umask.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics.directory.files import OWN_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable

_ROOT: Final = 0

UNFINISHED: Final = f"{OWN_PREFIX}unfinished"
"""The name of a directory that does not belong to its user yet."""


class Ownership(NamedTuple):
    """The *user* and the *group* that a file belongs to, by number, and its permission bits."""

    user: int
    group: int
    mode: int

    @classmethod
    def like(cls, directory: str, models: Iterable[str] = ()) -> Ownership:
        """Return whom a file in *directory* belongs to that is made of the files *models*.

        Models that are missing do not count. Raises `OSError` if the directory is missing.
        """
        place = os.stat(directory)
        files = []
        for path in models:
            with suppress(OSError):
                files.append(os.lstat(path))
        users = {file.st_uid for file in files} - {_ROOT}
        groups = {file.st_gid for file in files}
        has_user = place.st_uid != _ROOT or len(users) != 1
        has_group = place.st_mode & stat.S_ISGID or len(groups) != 1 or place.st_uid != _ROOT
        mode = 0
        for file in files:
            mode |= file.st_mode
        return cls(
            place.st_uid if has_user else users.pop(),
            place.st_gid if has_group else groups.pop(),
            (mode if files else place.st_mode) & 0o666 | 0o600,
        )

    def readable_in(self, directory: str) -> Ownership:
        """Return the same for a file that every user may read who may list *directory*.

        Raises `OSError`.
        """
        return self._replace(mode=self.mode | os.stat(directory).st_mode & 0o444)

    def apply(self, descriptor: int) -> None:
        """Give the open file of *descriptor* to its user and its group, as far as that is allowed.

        Only root may give files away, and others only to their own groups. Not every file system
        has owners and modes, and not every user has a number in a container.
        """
        if not hasattr(os, "fchown"):
            return  # Windows
        status = os.fstat(descriptor)
        if (status.st_uid, status.st_gid) != (self.user, self.group):
            try:
                os.fchown(descriptor, self.user, self.group)
            except OSError:
                with suppress(OSError):
                    os.fchown(descriptor, -1, self.group)
        if stat.S_IMODE(status.st_mode) != self.mode:
            with suppress(OSError):
                os.fchmod(descriptor, self.mode)


def make_directory_like(directory: str, path: str) -> None:
    """Make the directory *path*, which all users may change who may change *directory*.

    One compactor at a time may do that. Raises `OSError`.
    """
    place = os.stat(directory)
    mode = place.st_mode & 0o777
    is_for_others = hasattr(os, "chown") and (
        place.st_mode & 0o022 or (os.geteuid() == _ROOT and place.st_uid != _ROOT)
    )
    if not is_for_others:
        os.mkdir(path, mode)
        return
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
    # If this process is killed before it has given the directory away, it is in no user's way.
    unfinished = os.path.join(os.path.dirname(path), UNFINISHED)
    with suppress(FileNotFoundError):
        os.rmdir(unfinished)
    os.mkdir(unfinished, mode)
    with suppress(OSError):
        os.chown(unfinished, place.st_uid, place.st_gid)
    with suppress(OSError):
        os.chmod(unfinished, mode)
    os.rename(unfinished, path)
