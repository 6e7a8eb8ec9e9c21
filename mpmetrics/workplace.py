"""The directory of a wrapped server: found or made, locked, swept, and removed.

Its own directories are called ``mpmetrics-run-…`` and are private. One that a killed run has left
is removed by the next, but only when the kernel says that nobody uses it any more.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from filelock import FileLock, Timeout

from mpmetrics.errors import WorkplaceError
from mpmetrics.files import MANIFEST, OWN_PREFIX, list_directory
from mpmetrics.liveness import Liveness, is_alive
from mpmetrics.mounts import mount_of, space_of
from mpmetrics.wording import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX: Final = "mpmetrics-run-"
"""How the names of directories begin that a run has made for itself."""

_LOCK: Final = f"{OWN_PREFIX}run.lock"

_KEPT: Final = f"{OWN_PREFIX}run.kept"
"""What lies in a directory that somebody wants to keep: nobody sweeps that."""

_MEMORY: Final = "/dev/shm"  # noqa: S108 - where tmpfs is, not a file
_ENOUGH: Final = 64 << 20
"""Bytes that have to be free on a tmpfs: a thousand files of workers, as they begin."""

_ATTEMPTS: Final = 10


class Workplace(NamedTuple):
    """The directory *path* of a run, and the *lock* on it; *is_ours* if it was made for it."""

    path: str
    lock: FileLock
    is_ours: bool

    def in_use(self) -> int:
        """Return how many files in it are not provably of the dead."""
        return sum(is_alive(path) is not Liveness.DEAD for path in _metric_files(self.path))

    def leave(self, *, keep: bool) -> bool:
        """Give the directory up, and remove it if it is ours to remove; tell whether it stays."""
        stays = keep or not self.is_ours or self.in_use() > 0
        if not stays:
            shutil.rmtree(self.path, ignore_errors=True)
        # The lock file stays with the directory: whoever removes one lets in two at once.
        self.lock.release()
        return stays


def private_workplace(*, keep: bool = False) -> Workplace:
    """Make a directory for one run, where there is room. Raises `WorkplaceError`.

    With *keep*, no other run removes it, whatever becomes of this one.
    """
    base = _base()
    for _ in range(_ATTEMPTS):
        try:
            path = tempfile.mkdtemp(prefix=PREFIX, dir=base)
        except OSError as error:
            raise WorkplaceError(base, error.strerror or str(error)) from error
        # Whoever sweeps may have been quicker than our lock.
        with suppress(WorkplaceError):
            place = Workplace(path, _locked(path), is_ours=True)
            if keep:
                os.close(os.open(os.path.join(path, _KEPT), os.O_WRONLY | os.O_CREAT, 0o600))
            return place
    raise WorkplaceError(base, "new directories vanish from it")


def given_workplace(path: str, *, fresh: bool = False) -> Workplace:
    """Take the directory *path*, which is made if it is not there, for one run.

    With *fresh*, what earlier runs have left in it is removed. Raises `WorkplaceError` when
    another run has it, or when it is not certain that nobody uses what is to be removed.
    """
    directory = os.path.abspath(path)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
    except OSError as error:
        raise WorkplaceError(directory, error.strerror or str(error)) from error
    place = Workplace(directory, _locked(directory), is_ours=False)
    if fresh:
        try:
            _empty(place)
        except WorkplaceError:
            place.leave(keep=True)
            raise
    return place


def sweep() -> list[str]:
    """Remove what earlier runs of this user have left; return the paths that were removed."""
    return [path for base in sorted({_MEMORY, tempfile.gettempdir()}) for path in _swept(base)]


def _swept(base: str) -> Iterator[str]:
    """Remove the directories of earlier runs below *base* that nobody uses; yield their paths."""
    try:
        names = [name for name in os.listdir(base) if name.startswith(PREFIX)]
    except OSError:
        return
    for path in sorted(os.path.join(base, name) for name in names):
        with suppress(OSError, WorkplaceError):
            if not _is_private(path) or os.path.lexists(os.path.join(path, _KEPT)):
                continue
            place = Workplace(path, _locked(path), is_ours=True)
            if not place.leave(keep=False):
                yield path


def _is_private(path: str) -> bool:
    """Tell whether *path* is a directory of this user, and no link to one."""
    status = os.lstat(path)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()


def _base() -> str:
    """Return where to make a directory: in memory, if there is room, else for other scratch."""
    mount, space = mount_of(_MEMORY), space_of(_MEMORY)
    is_memory = mount is not None and mount.kind == "tmpfs"
    if is_memory and space is not None and space.free >= _ENOUGH and os.access(_MEMORY, os.W_OK):
        return _MEMORY
    return tempfile.gettempdir()


def _locked(path: str) -> FileLock:
    """Lock the directory *path* against other runs. Raises `WorkplaceError`."""
    lock = FileLock(os.path.join(path, _LOCK), thread_local=False)
    try:
        lock.acquire(timeout=0)
        # Whoever sweeps may have removed the directory while it was being locked.
        os.stat(lock.lock_file)
    except Timeout as error:
        raise WorkplaceError(path, "another mpmetrics run uses it") from error
    except OSError as error:
        lock.release()
        raise WorkplaceError(path, error.strerror or str(error)) from error
    return lock


def _metric_files(path: str) -> list[str]:
    """Return the paths of the files in the directory *path* that workers may have open."""
    return [file.path for file in list_directory(path).files if not file.name.is_archive]


def _empty(place: Workplace) -> None:
    """Remove all metrics from a directory. Raises `WorkplaceError` if that may hurt somebody."""
    try:
        used = place.in_use()
        if used:
            why = f"nothing was removed: {plural(used, 'file')} may still be in use"
            raise WorkplaceError(place.path, why)
        listing = list_directory(place.path)
        for path in [*(file.path for file in listing.files), *listing.quarantined]:
            os.unlink(path)
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(place.path, MANIFEST))
    except OSError as error:
        raise WorkplaceError(place.path, error.strerror or str(error)) from error
