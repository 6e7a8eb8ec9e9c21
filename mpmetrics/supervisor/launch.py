"""The start of the command that a wrapper runs, and the exit by which the wrapper ends as it did.

The command does not outlive the wrapper. Linux only.

The command is not started by `subprocess`: that takes the environment before there is a process,
and systemd's variables name the process that they are meant for.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from mpmetrics.errors import CommandError
from mpmetrics.supervisor.systemd import readdress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mpmetrics.supervisor.account import Account

IS_SUPPORTED: Final = hasattr(signal, "sigtimedwait") and os.path.isdir("/proc/self/task")
"""Whether this system has what a wrapper needs."""

NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
"""The exit statuses of a shell for a command that is not there, and for one that it may not run."""

_BY_SIGNAL: Final = 128
"""What a shell adds to the number of a signal, for the exit status of a command that it ended."""

_LONGEST_END: Final = 5.0
"""Seconds that Python has to end this process once all has been done."""

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36

_libc: Final[Any] = ctypes.CDLL(None, use_errno=True) if IS_SUPPORTED else None


def become_subreaper() -> None:
    """Become the parent of all descendants whose own parent ends. Raises `OSError`."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


class Command(NamedTuple):
    """The command *line* of a server, its *environment*, and the *account* that it runs as.

    Without an account, that is the account of this process.
    """

    line: Sequence[str]
    environment: Mapping[str, str]
    account: Account | None = None


def start_command(command: Command, mask: set[int], *, own_group: bool) -> int:
    """Start *command* with the signal *mask*, in a process group of its own if *own_group*.

    It inherits what a caller has left open for it, as systemd does. It gets SIGTERM when this
    process ends. Return its pid. Raises `CommandError`.
    """
    parent = os.getpid()

    def prepare() -> None:
        if own_group:
            os.setpgid(0, 0)
        if command.account is not None:
            os.setgroups(command.account.groups)
            os.setgid(command.account.gid)
            os.setuid(command.account.uid)
        # Not before: the kernel forgets it when the user changes.
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        for number in signal.SIGPIPE, signal.SIGXFSZ:  # which Python ignores
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    reader, writer = os.pipe()
    try:
        # There is no other thread, so that the child may do whatever it likes.
        pid = os.fork()
        if pid == 0:
            _become(command, prepare, writer)
    finally:
        os.close(writer)
        report = _read_to_end(reader)
    if report:
        os.waitpid(pid, 0)
        raise _command_error(command.line[0], report)
    return pid


def _become(command: Command, prepare: Callable[[], None], report_to: int) -> NoReturn:
    """Have this process, which is a new child, *prepare* and run *command*; report a failure."""
    try:
        prepare()
        variables = readdress(command.environment, os.getppid())
        os.execvpe(command.line[0], [*command.line], variables)  # noqa: S606 - it is what the user wants
    except BaseException as error:  # noqa: BLE001 - the child must not go on as its parent does
        why = getattr(error, "strerror", None) or str(error)
        is_missing = isinstance(error, FileNotFoundError)
        os.write(report_to, f"{int(is_missing)}{why}".encode(errors="replace"))
    finally:
        os._exit(NOT_FOUND)


def _command_error(name: str, report: str) -> CommandError:
    """Return the error for the command *name*, which has failed with *report*."""
    if report.startswith("1"):
        return CommandError(name, "command not found", NOT_FOUND)
    return CommandError(name, report[1:], NOT_EXECUTABLE)


def _read_to_end(descriptor: int) -> str:
    """Read what a pipe has until it is closed, and close it."""
    with open(descriptor, encoding="utf-8", errors="replace") as file:
        return file.read()


def reproduce_exit(returncode: int, *, patience: float = _LONGEST_END) -> int:
    """End this process by the signal that *returncode* stands for; else return the exit status.

    The first process of a container cannot be ended by a signal of its own: it gets the status
    that a shell would give. This process ends within the *patience*, in seconds, even if a thread
    of it hangs.
    """
    if returncode >= 0:
        _end_soon(returncode, patience)
        return returncode
    import resource  # noqa: PLC0415 - not on every system

    # One core dump, that of the server, is enough.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    number = -returncode
    with suppress(OSError, ValueError):  # SIGKILL cannot be set
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    _end_soon(_BY_SIGNAL + number, patience)
    return _BY_SIGNAL + number


def _end_soon(status: int, patience: float) -> None:
    """Have this process end with *status* if it waits for its threads for too long."""
    timer = threading.Timer(patience, os._exit, [status])
    timer.daemon = True
    with suppress(RuntimeError):  # no thread can be started: the status counts more than the limit
        timer.start()


def _prctl(option: int, value: int) -> None:
    """Set an attribute of this process (prctl(2)). Raises `OSError`."""
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
