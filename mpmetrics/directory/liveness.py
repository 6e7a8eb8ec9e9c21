"""Whether the process that writes a file is still there, by the kernel's word.

A pid proves nothing: pids are reused, every container has a pid 1, and a sidecar cannot see its
neighbour's. But a worker keeps its file open for as long as it lives, and Linux grants a write
lease (fcntl(2), `F_SETLEASE`) on a file exactly when nobody else on that kernel has it open, in
whatever pid namespace. A memory map counts as open.

Leases are asked for with care. While one is held, whoever opens the file has to wait for it, and
the kernel tells the holder with a signal that would kill it, were it not changed to a harmless
one. Not every file system keeps the count right, so a directory has to prove itself first.
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
    from collections.abc import Iterator

try:
    import fcntl
except ImportError:
    HAS_LEASES = False
    """Whether this system has leases at all."""
else:
    HAS_LEASES = hasattr(fcntl, "F_SETLEASE")

PROBE_PREFIX: Final = f"{OWN_PREFIX}probe-"
"""How the names of the scratch files begin by which a directory proves itself."""

_OPEN_FLAGS: Final = os.O_RDONLY | sum(
    getattr(os, flag, 0) for flag in ("O_NONBLOCK", "O_CLOEXEC", "O_NOFOLLOW")
)


class Liveness(Enum):
    """What is known about the process that writes a file."""

    ALIVE = "alive"
    """The file is open somewhere: hands off."""

    DEAD = "dead"
    """Nobody has the file open: nothing will be written to it by who did."""

    UNKNOWN = "unknown"
    """There is no proof to be had here."""


def is_alive(file: str | os.PathLike[str]) -> Liveness:
    """Tell whether the process that writes *file* is alive; never a guess.

    UNKNOWN is the answer for a file that is not there or not ours to ask about, on a file system
    that has not shown that it can tell, and on systems other than Linux.
    """
    path = os.fspath(file)
    if not has_proven_leases(os.path.dirname(path) or os.curdir):
        return Liveness.UNKNOWN
    try:
        descriptor = os.open(path, _OPEN_FLAGS)
    except OSError:
        # Also when somebody else is asking: the file is leased, and we do not wait for it.
        return Liveness.UNKNOWN
    try:
        take_lease(descriptor)
    except BlockingIOError:
        return Liveness.ALIVE
    except OSError:
        return Liveness.UNKNOWN
    else:
        return Liveness.DEAD
    finally:
        release_lease(descriptor)


def open_for_lease(path: str) -> int:
    """Return a descriptor of the file *path*, good for taking the lease and for truncating.

    Raises `BlockingIOError` when somebody else has the lease, another `OSError` otherwise.
    """
    return os.open(path, _OPEN_FLAGS | os.O_RDWR)


def take_lease(descriptor: int) -> None:
    """Take the write lease on the file that *descriptor* is open on, until it is closed.

    Whoever opens the file meanwhile waits: be quick. Raises `BlockingIOError` when somebody
    else has the file open, another `OSError` when there is no lease to be had.
    """
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    # The signal for "somebody wants the file" would by default, as SIGIO, end this process;
    # SIGURG is ignored unless somebody asks for it. The kernel forgets this with every lease.
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)


def release_lease(descriptor: int) -> None:
    """Give back the lease on the file that *descriptor* is open on, if there is one, and close.

    Closing alone would do, were there no copy of the descriptor in a child that was forked
    meanwhile: whoever opens the file would wait for that, too.
    """
    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    os.close(descriptor)


def has_lease(descriptor: int) -> bool:
    """Tell whether the lease is whole: nobody has asked for the file since it was taken."""
    return bool(fcntl.fcntl(descriptor, fcntl.F_GETLEASE) == fcntl.F_WRLCK)


def has_waiting_writer(descriptor: int) -> bool:
    """Tell whether somebody who might write waits for the leased file, or the lease is lost.

    While the lease is being broken, the kernel tells what will be left of it: a read lease for
    the sake of a reader, to whom nothing can happen; nothing for that of a writer.
    """
    return bool(fcntl.fcntl(descriptor, fcntl.F_GETLEASE) == fcntl.F_UNLCK)


_proven: dict[int, bool] = {}


def has_proven_leases(directory: str) -> bool:
    """Tell whether leases can be believed in *directory*; tried once for each file system."""
    if not HAS_LEASES:
        return False
    try:
        device = os.stat(directory).st_dev
        if device not in _proven:
            _proven[device] = not _is_networked(directory) and _prove(directory)
    except OSError:
        return False
    return _proven[device]


def _is_networked(directory: str) -> bool:
    """Tell whether other machines may have files open that this kernel knows nothing of."""
    mount = find_mount(directory)
    return mount is None or mount.is_networked


def _prove(directory: str) -> bool:
    """See whether a scratch file that another process has open is told from one that is closed.

    Raises `OSError` when the scratch file cannot be made, which proves nothing either way.
    """
    descriptor, path = tempfile.mkstemp(prefix=PROBE_PREFIX, dir=directory)
    try:
        with _holder(descriptor):
            held = _is_granted(path)
        return not held and _is_granted(path)
    finally:
        # Who compacts the directory may have taken it for what a killed process left.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _waiting_program() -> list[str]:
    """Return the command of a program that does nothing until its input ends."""
    cat = shutil.which("cat")
    return [cat] if cat else [sys.executable, "-I", "-S", "-c", "import sys; sys.stdin.read()"]


@contextlib.contextmanager
def _holder(descriptor: int) -> Iterator[None]:
    """Have another process, and it alone, hold the open file behind *descriptor*."""
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


def _is_granted(path: str) -> bool:
    """Tell whether a lease on *path* is granted."""
    descriptor = os.open(path, _OPEN_FLAGS)
    try:
        take_lease(descriptor)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)
