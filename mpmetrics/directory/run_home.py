"""The home of a run: the private directory around the one that a server writes metrics to.

A server may remove its metrics directory and make another one, as many do when they start. So what
must stay is in the directory around it, which the server does not know::

    mpmetrics-run-k3x9/                       the home, for one user alone
    mpmetrics-run-k3x9/.mpmetrics-run.kept    the mark, locked for as long as the run lives
    mpmetrics-run-k3x9/metrics/               what PROMETHEUS_MULTIPROC_DIR names

A home that a killed run has left is removed later: only by the mark, which nothing else makes, and
only when no process can use it. Nothing is deleted but the mark and files with the names of metrics
files, one by one, and then directories that are empty.

A run that is killed before it has written its mark leaves an empty directory, or one with an empty
mark. That stays: it cannot be told from a directory of the user, or from a run that begins.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics.directory.files import OPENING, OWN_PREFIX, is_metrics_name
from mpmetrics.directory.locks import HAS_FLOCK, IN_USE, lock_descriptor
from mpmetrics.directory.open_directory import OpenDirectory
from mpmetrics.errors import RunDirectoryError
from mpmetrics.system import read_boot, read_control_group, read_pid_namespace, read_tick

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK: Final = f"{OWN_PREFIX}run.kept"
"""The name of the file that marks a home, and is locked.

mpmetrics 0.1 sweeps by names alone, but never what has a file of this name.
"""

METRICS: Final = "metrics"
"""The name of the metrics directory in its home."""

_VERSION: Final = 1
_LARGEST: Final = 1 << 14
"""The most bytes of a mark."""

_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
"""The permissions that no home gives."""


class Mark(NamedTuple):
    """The content of a mark.

    *inode* is that of the home, so that a copy of the mark marks nothing. *kept* is whether the
    home stays until a user removes it. The others say where and when the run was started: the
    *boot* of the kernel, the *pid_namespace*, the control *group*, the *session*, the *tick*, and
    the *pid*.
    """

    inode: int
    kept: bool
    boot: str
    pid_namespace: int
    group: str
    session: int
    tick: int
    pid: int

    @classmethod
    def make(cls, inode: int, *, kept: bool) -> Mark:
        """Return the mark that this process gives to the home *inode*."""
        session = os.getsid(0) if hasattr(os, "getsid") else 0
        here = read_boot(), read_pid_namespace(), read_control_group(), session
        return cls(inode, kept, *here, read_tick(), os.getpid())

    @classmethod
    def parse(cls, data: bytes) -> Mark | None:
        """Return the mark in *data*, None if it is none of this version."""
        try:
            document = json.loads(data)
            if not isinstance(document, dict) or document.pop("mpmetrics-run") != _VERSION:
                return None
            mark = cls(**document)
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        kinds = [type(value) for value in mark]
        return mark if kinds == [int, bool, str, int, str, int, int, int] else None

    def format(self) -> bytes:
        """Return the bytes of the mark; `parse` returns it again."""
        return (json.dumps({"mpmetrics-run": _VERSION, **self._asdict()}) + "\n").encode()


class RunHome:
    """A home with its *mark*, which this process has locked."""

    def __init__(self, directory: OpenDirectory, lock: int, mark: Mark) -> None:
        """Take the open *directory*, and the locked file *lock*, which is its *mark*."""
        self.path = directory.path
        self.mark = mark
        self._directory = directory
        self._lock = lock

    @classmethod
    def make(cls, base: str, prefix: str, *, keep: bool) -> RunHome:
        """Make a home below *base* with a name that begins with *prefix*. Raises `OSError`."""
        with ExitStack() as stack:
            directory = OpenDirectory(tempfile.mkdtemp(prefix=prefix, dir=base))
            stack.callback(directory.close)
            lock = directory.open_file(MARK, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            stack.callback(os.close, lock)
            # First the lock: a mark that can be read is, or was, locked.
            if HAS_FLOCK:
                lock_descriptor(lock)
            mark = Mark.make(directory.status().st_ino, kept=keep)
            os.write(lock, mark.format())
            os.mkdir(os.path.join(directory.path, METRICS), 0o700)
            stack.pop_all()
        return cls(directory, lock, mark)

    @classmethod
    def take(cls, path: str) -> RunHome | None:
        """Take the home at *path* that another run has left; return None if it is none.

        Raises `RunDirectoryError` if that run is alive, another `OSError` if *path* cannot be
        examined.
        """
        if not HAS_FLOCK:
            return None
        with ExitStack() as stack:
            directory = OpenDirectory(path)
            stack.callback(directory.close)
            if not directory.has_file(MARK):
                return None
            lock = directory.open_file(MARK, os.O_RDWR)
            stack.callback(os.close, lock)
            mark = _read_mark(directory, lock)
            if mark is None:
                return None
            if not lock_descriptor(lock):
                raise RunDirectoryError(path, IN_USE)
            # Another process may have removed the home just before.
            if not directory.has_open(MARK, lock):
                return None
            stack.pop_all()
        return cls(directory, lock, mark)

    @property
    def metrics(self) -> str:
        """The path of the metrics directory."""
        return os.path.join(self.path, METRICS)

    def find_foreign(self) -> str:
        """Return the path of an entry that mpmetrics does not know, "" if there is none.

        Raises `OSError`.
        """
        for name in self._directory.names():
            if name not in {MARK, METRICS}:
                return os.path.join(self.path, name)
        try:
            with self._open_metrics() as metrics:
                strange = [] if metrics is None else _list_strange(metrics)
        except NotADirectoryError:  # a file or a link has its name
            return self.metrics
        return os.path.join(self.metrics, strange[0]) if strange else ""

    def is_given(self) -> bool:
        """Return whether a run that was given the metrics directory uses it. Raises `OSError`."""
        with self._open_metrics() as metrics:
            return metrics is not None and not lock_descriptor(metrics.descriptor)

    def remove_files(self) -> None:
        """Delete the metrics files. Raises `OSError`."""
        with self._open_metrics() as metrics:
            if metrics is not None:
                _remove_openings(metrics, OPENING)
                for name in {*metrics.names()} - {*_list_strange(metrics), OPENING}:
                    with suppress(FileNotFoundError):
                        metrics.unlink(name)

    def remove(self) -> None:
        """Delete the metrics files, and the home. Raises `OSError` if anything else is in it."""
        self.remove_files()
        with suppress(FileNotFoundError):
            self._directory.rmdir(METRICS)
        if not HAS_FLOCK:  # Windows deletes no file that is open
            self.close()
        self.forget()
        os.rmdir(self.path)

    def give(self, uid: int, gid: int, *, whole: bool) -> None:
        """Give the metrics directory to the user *uid*; with *whole*, the home, too.

        Who has the home may remove the metrics directory and make it again. Raises `OSError`.
        """
        with self._open_metrics() as metrics:
            if metrics is not None:
                metrics.give(uid, gid, 0o700)
        if whole:
            self._directory.give(uid, gid, 0o700)
        else:
            self._directory.give(os.geteuid(), os.getegid(), 0o711)

    def forget(self) -> None:
        """Delete the mark: from now on the home is a directory of the user. Raises `OSError`."""
        self._directory.unlink(MARK)

    def close(self) -> None:
        """Release the lock; more than once is harmless."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        self._directory.close()

    @contextmanager
    def _open_metrics(self) -> Iterator[OpenDirectory | None]:
        """Open the metrics directory for the block, None if the server has removed it."""
        try:
            metrics = OpenDirectory(METRICS, self._directory)
        except FileNotFoundError:
            yield None
            return
        with metrics:
            yield metrics


def _list_strange(metrics: OpenDirectory) -> list[str]:
    """List the entries of a *metrics* directory that are no metrics files.

    What a compactor that was killed has left in a directory of its own is not among them.
    """
    return [
        name
        for name in metrics.names()
        if not (_has_only_metrics(metrics, name) if name == OPENING else _is_file(metrics, name))
    ]


def _is_file(directory: OpenDirectory, name: str) -> bool:
    """Return whether *name* in *directory* is a metrics file."""
    return is_metrics_name(name) and directory.has_file(name)


def _has_only_metrics(directory: OpenDirectory, name: str) -> bool:
    """Return whether *name* in *directory* is a directory of directories and metrics files."""
    try:
        inner = OpenDirectory(name, directory)
    except OSError:
        return False
    with inner:
        return all(
            _is_file(inner, entry) or _has_only_metrics(inner, entry) for entry in inner.names()
        )


def _remove_openings(directory: OpenDirectory, name: str) -> None:
    """Delete the directory *name*, if it has nothing but metrics. Raises `OSError`."""
    if _has_only_metrics(directory, name):
        with OpenDirectory(name, directory) as inner:
            for entry in inner.names():
                if inner.has_file(entry):
                    inner.unlink(entry)
                else:
                    _remove_openings(inner, entry)
        directory.rmdir(name)


def is_made_for_run(path: str) -> bool:
    """Return whether the directory *path* is in a home: it was made for one run, not by a user."""
    home, name = os.path.split(os.path.abspath(path)) if "\0" not in path else ("", "")
    return name == METRICS and os.path.lexists(os.path.join(home, MARK))


def _read_mark(directory: OpenDirectory, descriptor: int) -> Mark | None:
    """Return the mark in the open file *descriptor*, None if it is not that of *directory*.

    The file has to be this user's, and no other user may have put it there.
    """
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        return None
    home = directory.status()
    if home.st_mode & _WRITABLE_BY_OTHERS:
        return None
    mark = Mark.parse(os.read(descriptor, _LARGEST))
    return mark if mark and mark.inode == home.st_ino else None
