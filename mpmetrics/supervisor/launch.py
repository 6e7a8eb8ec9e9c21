"""Start a command that does not outlive this process, and end as it did."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from mpmetrics.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


IS_SUPPORTED: Final = hasattr(signal, "sigtimedwait") and os.path.isdir("/proc/self/task")
"""Whether this system has what supervision needs."""

_FORWARDED: Final = tuple(
    getattr(signal, name)
    for name in (
        *("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"),
        *("SIGTTIN", "SIGTTOU", "SIGWINCH", "SIGCONT"),
    )
    if hasattr(signal, name)
)
_PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36
_BY_SIGNAL: Final = 128

NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
"""What a shell says of a command that is not there, and of one that it may not run."""


def waited_signals() -> frozenset[int]:
    """Return the signals to wait for: not those that somebody wants this process to ignore."""
    wanted = {number for number in _FORWARDED if signal.getsignal(number) != signal.SIG_IGN}
    return frozenset({*wanted, signal.SIGCHLD})


@contextmanager
def held_signals() -> Iterator[set[int]]:
    """Have signals wait until somebody acts on them; yield the mask that was before.

    They are let through again if the block raises. If it does not, somebody has acted on them, and
    this process is about to end.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, waited_signals())
    try:
        yield {int(number) for number in mask}
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise


def has_terminal() -> bool:
    """Tell whether this process is in the foreground of a terminal, whose keys are signals."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def prctl(option: int, value: int) -> None:
    """Change an attribute of this process (prctl(2)). Raises `OSError`."""
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


_libc: Final[Any] = ctypes.CDLL(None, use_errno=True) if IS_SUPPORTED else None


def start_command(
    command: Sequence[str], environment: Mapping[str, str], mask: set[int], *, own_group: bool
) -> subprocess.Popen[bytes]:
    """Start the command, which shall not outlive this process. Raises `CommandError`."""
    parent = os.getpid()

    def prepare() -> None:
        # Between fork and exec; the parent has no other thread.
        if own_group:
            os.setpgid(0, 0)
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    try:
        # Whoever started us may have left open sockets for the server: they are passed on.
        return subprocess.Popen(  # noqa: S603 - it is what the user wants
            command,
            env=environment,
            close_fds=False,
            preexec_fn=prepare,  # noqa: PLW1509
        )
    except FileNotFoundError as error:
        raise CommandError(command[0], "command not found", NOT_FOUND) from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise CommandError(command[0], why, NOT_EXECUTABLE) from error


def end_like(returncode: int) -> int:
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
