"""The directory of a server: found or made, locked, swept, and removed.

Directories that are made here are private, and their names begin with a prefix of their kind. One
that somebody killed has left is removed by the next of that kind, but only when the kernel says
that nobody uses it any more.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from filelock import FileLock, Timeout

from mpmetrics._text import plural
from mpmetrics.directory.files import MANIFEST, OWN_PREFIX, list_directory
from mpmetrics.directory.liveness import Liveness, is_alive
from mpmetrics.errors import RunDirectoryError
from mpmetrics.system import find_mount, measure_space

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


class RunDirectory(NamedTuple):
    """The directory *path* of a server, the *lock* on it, and whether it was made for that."""

    path: str
    lock: FileLock
    is_ours: bool

    def count_files_in_use(self, *, besides: str = "") -> int:
        """Return how many files are not provably of the dead, *besides* those with one id."""
        paths = [path for path, id_ in _metric_files(self.path) if id_ != besides]
        return sum(is_alive(path) is not Liveness.DEAD for path in paths)

    def release(self, *, keep: bool, besides: str = "") -> bool:
        """Give the directory up, and remove it if it is ours to remove; tell whether it stays.

        It stays while somebody uses it, *besides* the process of the files with one id.
        """
        stays = keep or not self.is_ours or self.count_files_in_use(besides=besides) > 0
        if not stays:
            shutil.rmtree(self.path, ignore_errors=True)
        # The lock file stays with the directory: whoever removes one lets in two at once.
        self.lock.release()
        return stays


def make_private_directory(*, keep: bool = False) -> RunDirectory:
    """Make a directory for one run, where there is room. Raises `RunDirectoryError`.

    With *keep*, no other run removes it, whatever becomes of this one.
    """
    return make_run_directory(_base(), PREFIX, keep=keep)


def make_run_directory(base: str, prefix: str, *, keep: bool = False) -> RunDirectory:
    """Make a directory below *base* whose name begins with *prefix*. Raises `RunDirectoryError`.

    With *keep*, nobody sweeps it.
    """
    for _ in range(_ATTEMPTS):
        try:
            path = tempfile.mkdtemp(prefix=prefix, dir=base)
        except OSError as error:
            raise RunDirectoryError(base, error.strerror or str(error)) from error
        # Whoever sweeps may have been quicker than our lock.
        with suppress(RunDirectoryError):
            place = RunDirectory(path, _locked(path), is_ours=True)
            if keep:
                os.close(os.open(os.path.join(path, _KEPT), os.O_WRONLY | os.O_CREAT, 0o600))
            return place
    raise RunDirectoryError(base, "new directories vanish from it")


def take_run_directory(path: str, *, fresh: bool = False) -> RunDirectory:
    """Take the directory *path*, which is made if it is not there, for one run.

    With *fresh*, what earlier runs have left in it is removed. Raises `RunDirectoryError` when
    another run has it, or when it is not certain that nobody uses what is to be removed.
    """
    directory = os.path.abspath(path)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
    except OSError as error:
        raise RunDirectoryError(directory, error.strerror or str(error)) from error
    place = RunDirectory(directory, _locked(directory), is_ours=False)
    if fresh:
        try:
            _empty(place)
        except RunDirectoryError:
            place.release(keep=True)
            raise
    return place


def sweep_run_directories() -> list[str]:
    """Remove what earlier runs of this user have left; return the paths that were removed."""
    bases = sorted({_MEMORY, tempfile.gettempdir()})
    return [path for base in bases for path in sweep_below(base, PREFIX)]


def sweep_below(base: str, prefix: str) -> Iterator[str]:
    """Remove directories of one kind below *base* that nobody uses; yield their paths.

    Their names begin with *prefix*, and they were made here: that they have a lock is the sign.
    """
    try:
        names = [name for name in os.listdir(base) if name.startswith(prefix)]
    except OSError:
        return
    for path in sorted(os.path.join(base, name) for name in names):
        with suppress(OSError, RunDirectoryError):
            if not _is_private(path) or os.path.lexists(os.path.join(path, _KEPT)):
                continue
            if prefix != PREFIX and not os.path.lexists(os.path.join(path, _LOCK)):
                continue  # somebody else's, who happens to call it so
            place = RunDirectory(path, _locked(path), is_ours=True)
            if not place.release(keep=False):
                yield path


def _is_private(path: str) -> bool:
    """Tell whether *path* is a directory of this user, and no link to one."""
    status = os.lstat(path)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()


def _base() -> str:
    """Return where to make a directory: in memory, if there is room, else for other scratch."""
    mount, space = find_mount(_MEMORY), measure_space(_MEMORY)
    is_memory = mount is not None and mount.kind == "tmpfs"
    if is_memory and space is not None and space.free >= _ENOUGH and os.access(_MEMORY, os.W_OK):
        return _MEMORY
    return tempfile.gettempdir()


def _locked(path: str) -> FileLock:
    """Lock the directory *path* against other runs. Raises `RunDirectoryError`."""
    lock = FileLock(os.path.join(path, _LOCK), thread_local=False)
    try:
        lock.acquire(timeout=0)
        # Whoever sweeps may have removed the directory while it was being locked.
        os.stat(lock.lock_file)
    except Timeout as error:
        raise RunDirectoryError(path, "another mpmetrics run uses it") from error
    except OSError as error:
        lock.release()
        raise RunDirectoryError(path, error.strerror or str(error)) from error
    return lock


def _metric_files(path: str) -> list[tuple[str, str]]:
    """Return path and id of the files in the directory *path* that workers may have open."""
    files = [file for file in list_directory(path).files if not file.name.is_archive]
    return [(file.path, file.name.id) for file in files]


def _empty(place: RunDirectory) -> None:
    """Remove all metrics from a directory. Raises `RunDirectoryError` if that may hurt somebody."""
    try:
        used = place.count_files_in_use()
        if used:
            why = f"nothing was removed: {plural(used, 'file')} may still be in use"
            raise RunDirectoryError(place.path, why)
        listing = list_directory(place.path)
        for path in [*(file.path for file in listing.files), *listing.quarantined]:
            os.unlink(path)
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(place.path, MANIFEST))
    except OSError as error:
        raise RunDirectoryError(place.path, error.strerror or str(error)) from error
