"""The start of the command that a wrapper runs, and the exit by which the wrapper ends as it did.

The command does not outlive the wrapper. Linux only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from mpmetrics.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

IS_SUPPORTED: Final = hasattr(signal, "sigtimedwait") and os.path.isdir("/proc/self/task")
"""Whether this system has what a wrapper needs."""

NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
"""The exit statuses of a shell for a command that is not there, and for one that it may not run."""

_BY_SIGNAL: Final = 128
"""What a shell adds to the number of a signal, for the exit status of a command that it ended."""

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36

_libc: Final[Any] = ctypes.CDLL(None, use_errno=True) if IS_SUPPORTED else None


def become_subreaper() -> None:
    """Become the parent of all descendants whose own parent ends. Raises `OSError`."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def start_command(
    command: Sequence[str], environment: Mapping[str, str], mask: set[int], *, own_group: bool
) -> subprocess.Popen[bytes]:
    """Start *command* with the signal *mask*, in a process group of its own if *own_group*.

    It gets SIGTERM when this process ends. Raises `CommandError`.
    """
    parent = os.getpid()

    def prepare() -> None:
        # Between fork and exec; the parent has no other thread.
        if own_group:
            os.setpgid(0, 0)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    try:
        return subprocess.Popen(  # noqa: S603 - it is what the user wants
            command,
            env=environment,
            close_fds=False,  # as systemd does it, a caller may leave open sockets for the server
            preexec_fn=prepare,  # noqa: PLW1509 - there is no other thread yet
        )
    except FileNotFoundError as error:
        raise CommandError(command[0], "command not found", NOT_FOUND) from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise CommandError(command[0], why, NOT_EXECUTABLE) from error


def reproduce_exit(returncode: int) -> int:
    """End this process by the signal that *returncode* stands for; else return the exit status.

    The first process of a container cannot be ended by a signal of its own: it gets the status
    that a shell would give.
    """
    if returncode >= 0:
        return returncode
    import resource  # noqa: PLC0415 - not on every system

    # One core dump, that of the server, is enough.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    number = -returncode
    with suppress(OSError, ValueError):  # SIGKILL cannot be set
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    return _BY_SIGNAL + number


def _prctl(option: int, value: int) -> None:
    """Set an attribute of this process (prctl(2)). Raises `OSError`."""
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
