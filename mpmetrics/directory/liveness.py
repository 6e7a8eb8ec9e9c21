"""Whether the process that writes a file is still alive, by the kernel's count of open files.

A pid proves nothing: pids are reused, every container has a pid 1, and a sidecar cannot see its
neighbour's. But a worker keeps its file open for as long as it lives, and Linux grants a write
lease (fcntl(2), `F_SETLEASE`) on a file exactly when no other process on that kernel has it open,
in whatever pid namespace. A memory map counts as open.

Taking a lease needs care. While it is held, any other opener of the file has to wait: so a lease is
given back by the next system call, and is never held across anything else. The kernel notifies the
holder of the lease with a signal that would kill it, unless a harmless one is chosen first. It is
SIGCONT, which a process ignores by default while it runs, and which makes a stopped process go on:
a process that was stopped between the two calls is woken up by the opener that waits for it, and
gives the lease back. Only a holder that is frozen (cgroups) makes an opener wait, for as long as
`/proc/sys/fs/lease-break-time` says.

Some file systems do not count open files correctly, so `LeaseProver` tests each of them before its
leases are trusted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from enum import Enum
from typing import TYPE_CHECKING, Final

from mpmetrics.directory.files import OWN_PREFIX
from mpmetrics.system import find_mount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

try:
    import fcntl
except ImportError:
    HAS_LEASES = False
    """Whether this system has leases at all."""
else:
    HAS_LEASES = hasattr(fcntl, "F_SETLEASE")

PROBE_PREFIX: Final = f"{OWN_PREFIX}probe-"
"""The prefix of the names of the files with which a file system is tested."""

_OPEN_FLAGS: Final = os.O_RDONLY | sum(
    getattr(os, flag, 0) for flag in ("O_NONBLOCK", "O_CLOEXEC", "O_NOFOLLOW")
)


class Liveness(Enum):
    """What is known about the process that writes a file."""

    ALIVE = "alive"
    """A process has the file open: leave it alone."""

    DEAD = "dead"
    """No process has the file open: its worker will write nothing more to it."""

    UNKNOWN = "unknown"
    """There is no proof either way."""


def open_for_lease(path: str) -> int:
    """Open the file *path*, fit for a lease; return the descriptor.

    Raises `BlockingIOError` when another process has the lease, another `OSError` otherwise.
    """
    return os.open(path, _OPEN_FLAGS)


def take_lease(descriptor: int) -> None:
    """Take the write lease on the file that *descriptor* is open on, until it is closed.

    Any other opener of the file waits meanwhile: be quick. Raises `BlockingIOError` when another
    process has the file open, another `OSError` when the lease cannot be taken at all.
    """
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    # The kernel forgets the choice of the signal with every lease.
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGCONT)
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)


def has_writer(descriptor: int) -> bool:
    """Return whether any process has the file of *descriptor* open for writing.

    The descriptor has to be open for reading only. Raises `OSError` when no lease can be taken.
    """
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGCONT)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def release_lease(descriptor: int) -> None:
    """Release the lease on the file that *descriptor* is open on, if it has one, and close it.

    Closing alone would release it, too, unless a child that was forked meanwhile has a copy of the
    descriptor. Then openers of the file would have to wait for that child as well.
    """
    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    os.close(descriptor)


class LeaseProver:
    """The file systems whose leases have been tested, and what is known of files by that proof.

    A file system passes if another process can hold a scratch file open and the lease on it is
    refused, and granted once that process has closed it. Each file system is tested once.
    """

    def __init__(
        self,
        *,
        has_leases: bool = HAS_LEASES,
        take_lease: Callable[[int], None] = take_lease,
    ) -> None:
        """Take leases by *take_lease*; without *has_leases* every answer is "unknown"."""
        self._has_leases = has_leases
        self._take_lease = take_lease
        self._is_proven: dict[int, bool] = {}

    def prove(self, directory: str) -> bool:
        """Test the file system of *directory*, unless it has been tested; return whether it passed.

        A test starts a process and writes a file to *directory*.
        """
        if not self._has_leases:
            return False
        try:
            device = os.stat(directory).st_dev
            if device not in self._is_proven:
                self._is_proven[device] = not _is_networked(directory) and self._test(directory)
        except OSError:
            return False
        return self._is_proven[device]

    def examine(self, path: str) -> Liveness:
        """Return whether the process that writes the file *path* is alive. See `is_alive`."""
        if not self.prove(os.path.dirname(path) or os.curdir):
            return Liveness.UNKNOWN
        try:
            descriptor = os.open(path, _OPEN_FLAGS)
        except OSError:
            # This is also how a file that another process has leased looks: we do not wait for it.
            return Liveness.UNKNOWN
        try:
            self._take_lease(descriptor)
        except BlockingIOError:
            return Liveness.ALIVE
        except OSError:
            return Liveness.UNKNOWN
        else:
            return Liveness.DEAD
        finally:
            release_lease(descriptor)

    def _test(self, directory: str) -> bool:
        """Test with a scratch file in *directory* whether leases tell open from closed.

        Raises `OSError` when the scratch file cannot be made, which proves nothing either way.
        """
        descriptor, path = tempfile.mkstemp(prefix=PROBE_PREFIX, dir=directory)
        try:
            with _hold_open(descriptor):
                is_granted_while_open = self._is_granted(path)
            return not is_granted_while_open and self._is_granted(path)
        finally:
            # A compactor may have removed it already, as the scratch file of a killed process.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def _is_granted(self, path: str) -> bool:
        """Return whether a lease on the file *path* is granted."""
        descriptor = os.open(path, _OPEN_FLAGS)
        try:
            self._take_lease(descriptor)
        except OSError:
            return False
        else:
            return True
        finally:
            os.close(descriptor)


PROVER: Final = LeaseProver()
"""The prover of this process.

There is one for the whole process because a test starts a child process, its result holds for a
file system and not for one caller, and every scrape asks for the liveness of many files. Nothing in
it depends on the process: a forked child may go on with what it has inherited.
"""


def is_alive(file: str | os.PathLike[str]) -> Liveness:
    """Return whether the process that writes *file* is alive; the answer is never a guess.

    It is UNKNOWN for a file that is missing or belongs to another user, on a file system that has
    not passed the test of `LeaseProver`, and on systems other than Linux.
    """
    return PROVER.examine(os.fspath(file))


def prove_leases(directory: str) -> bool:
    """Test leases in *directory*; return whether they tell open files from closed ones.

    See `LeaseProver.prove`.
    """
    return PROVER.prove(directory)


def _is_networked(directory: str) -> bool:
    """Return whether other machines may have files open that this kernel does not know of."""
    mount = find_mount(directory)
    return mount is None or mount.is_networked


def _waiting_program() -> list[str]:
    """Return the command of a program that does nothing until its input ends."""
    cat = shutil.which("cat")
    return [cat] if cat else [sys.executable, "-I", "-S", "-c", "import sys; sys.stdin.read()"]


@contextlib.contextmanager
def _hold_open(descriptor: int) -> Iterator[None]:
    """Move *descriptor* into a child process, so that no other process has its file open."""
    try:
        process = subprocess.Popen(  # noqa: S603 - a program that only waits
            _waiting_program(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[descriptor],
        )
    finally:
        os.close(descriptor)
    with process:
        yield
