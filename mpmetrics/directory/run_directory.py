"""The run directory: the multiprocess directory that is made or taken for one server, and locked.

A directory that is made here is private, and its name begins with a prefix of its kind. If its
owner is killed, it stays. The next owner with the same prefix removes it, but only when the kernel
says that no process uses it any more.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics._text import plural
from mpmetrics.directory.files import MANIFEST, OWN_PREFIX, list_directory
from mpmetrics.directory.liveness import Liveness, is_alive
from mpmetrics.directory.locks import make_lock
from mpmetrics.errors import RunDirectoryError
from mpmetrics.system import find_mount, measure_space

if TYPE_CHECKING:
    from collections.abc import Iterator

    from filelock import BaseFileLock

PREFIX: Final = "mpmetrics-run-"
"""The prefix of the names of directories that `mpmetrics run` makes."""

_LOCK: Final = f"{OWN_PREFIX}run.lock"

_KEPT: Final = f"{OWN_PREFIX}run.kept"
"""The name of the file that marks a directory to keep: it is not swept."""

_MEMORY: Final = "/dev/shm"  # noqa: S108 - where tmpfs is, not a file
_ENOUGH: Final = 64 << 20
"""Bytes that have to be free on a tmpfs: a thousand new files of workers, of 64 KiB each."""

_ATTEMPTS: Final = 10


class RunDirectory(NamedTuple):
    """The directory *path* of one server, and the *lock* on it.

    It *is_private* if it was made here, by this process or an earlier one, and not named by a user.
    """

    path: str
    lock: BaseFileLock
    is_private: bool

    def count_files_in_use(self, *, besides: str = "") -> int:
        """Count the files whose worker is not proven dead, *besides* those with that id."""
        paths = [path for path, id_ in _list_worker_files(self.path) if id_ != besides]
        return sum(is_alive(path) is not Liveness.DEAD for path in paths)

    def release(self, *, keep: bool, besides: str = "") -> bool:
        """Release the lock, and remove a private directory; return whether it stays.

        With *keep* it stays, and also if a process may have a file in it open, *besides* the
        process whose files have that id.
        """
        stays = keep or not self.is_private or self.count_files_in_use(besides=besides) > 0
        if not stays:
            shutil.rmtree(self.path, ignore_errors=True)
        # As long as the directory stays, so does the lock file: see `mpmetrics.directory.locks`.
        self.lock.release()
        return stays


def make_private_directory(*, keep: bool = False) -> RunDirectory:
    """Make a directory for one run, in memory if possible. Raises `RunDirectoryError`.

    With *keep*, no other run removes it, however this run ends.
    """
    return make_run_directory(_choose_base(), PREFIX, keep=keep)


def make_run_directory(base: str, prefix: str, *, keep: bool = False) -> RunDirectory:
    """Make a directory below *base* whose name begins with *prefix*. Raises `RunDirectoryError`.

    With *keep*, it is not swept.
    """
    for _ in range(_ATTEMPTS):
        try:
            path = tempfile.mkdtemp(prefix=prefix, dir=base)
        except OSError as error:
            raise RunDirectoryError(base, error.strerror or str(error)) from error
        # Another process that sweeps may have locked or removed the directory first.
        with suppress(RunDirectoryError):
            made = RunDirectory(path, _lock_directory(path), is_private=True)
            if keep:
                os.close(os.open(os.path.join(path, _KEPT), os.O_WRONLY | os.O_CREAT, 0o600))
            return made
    raise RunDirectoryError(base, "new directories vanish from it")


def take_run_directory(path: str, *, fresh: bool = False) -> RunDirectory:
    """Take the directory *path* for one run, and make it if it is missing.

    With *fresh*, the metrics of earlier runs are removed from it. Raises `RunDirectoryError` when
    another run has the directory, or when a process may still use what is to be removed.
    """
    directory = os.path.abspath(path)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
    except OSError as error:
        raise RunDirectoryError(directory, error.strerror or str(error)) from error
    taken = RunDirectory(directory, _lock_directory(directory), is_private=False)
    if fresh:
        try:
            _remove_metrics(taken)
        except RunDirectoryError:
            taken.release(keep=True)
            raise
    return taken


def sweep_run_directories() -> list[str]:
    """Remove unused directories of earlier runs of this user; return their paths."""
    bases = sorted({_MEMORY, tempfile.gettempdir()})
    return [path for base in bases for path in sweep_below(base, PREFIX)]


def sweep_below(base: str, prefix: str) -> Iterator[str]:
    """Remove unused directories below *base* whose names begin with *prefix*; yield their paths.

    Only directories of this user are removed. Unless *prefix* is that of `mpmetrics run`,
    a directory must also have a lock file, the sign that it was made here.
    """
    try:
        names = [name for name in os.listdir(base) if name.startswith(prefix)]
    except OSError:
        return
    for path in sorted(os.path.join(base, name) for name in names):
        with suppress(OSError, RunDirectoryError):
            if not _belongs_to_user(path) or os.path.lexists(os.path.join(path, _KEPT)):
                continue
            if prefix != PREFIX and not os.path.lexists(os.path.join(path, _LOCK)):
                continue  # made by another program that uses the same prefix
            found = RunDirectory(path, _lock_directory(path), is_private=True)
            if not found.release(keep=False):
                yield path


def _belongs_to_user(path: str) -> bool:
    """Return whether *path* is a directory of this user, not a symbolic link to one."""
    status = os.lstat(path)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()


def _choose_base() -> str:
    """Choose where to make a directory: on the tmpfs if it has room, else among temporary files."""
    mount, space = find_mount(_MEMORY), measure_space(_MEMORY)
    is_memory = mount is not None and mount.kind == "tmpfs"
    if is_memory and space is not None and space.free >= _ENOUGH and os.access(_MEMORY, os.W_OK):
        return _MEMORY
    return tempfile.gettempdir()


def _lock_directory(path: str) -> BaseFileLock:
    """Lock the directory *path* against other runs. Raises `RunDirectoryError`."""
    lock = make_lock(os.path.join(path, _LOCK))
    try:
        lock.acquire(timeout=0)
        # A process that sweeps may have removed the directory while it was being locked.
        os.stat(lock.lock_file)
    except TimeoutError as error:
        raise RunDirectoryError(path, "another mpmetrics run uses it") from error
    except OSError as error:
        lock.release()
        raise RunDirectoryError(path, error.strerror or str(error)) from error
    return lock


def _list_worker_files(path: str) -> list[tuple[str, str]]:
    """List path and id of the files in the directory *path* that workers may have open."""
    files = [file for file in list_directory(path).files if not file.name.is_archive]
    return [(file.path, file.name.id) for file in files]


def _remove_metrics(directory: RunDirectory) -> None:
    """Remove all metrics from a *directory* that is not in use. Raises `RunDirectoryError`."""
    try:
        used = directory.count_files_in_use()
        if used:
            why = f"nothing was removed: {plural(used, 'file')} may still be in use"
            raise RunDirectoryError(directory.path, why)
        listing = list_directory(directory.path)
        for path in [*(file.path for file in listing.files), *listing.quarantined]:
            os.unlink(path)
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(directory.path, MANIFEST))
    except OSError as error:
        raise RunDirectoryError(directory.path, error.strerror or str(error)) from error
