"""The signals of a server: a wrapper waits for them instead of acting on them at once."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_FORWARDED: Final = tuple(
    getattr(signal, name)
    for name in (
        *("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"),
        *("SIGTTIN", "SIGTTOU", "SIGWINCH", "SIGCONT"),
    )
    if hasattr(signal, name)
)


def list_awaited_signals() -> frozenset[int]:
    """Return the signals to wait for: those of a server that are not ignored, and SIGCHLD.

    What this process ignores it was told to ignore when it was started, as by nohup(1).
    """
    heeded = {number for number in _FORWARDED if signal.getsignal(number) != signal.SIG_IGN}
    return frozenset({*heeded, signal.SIGCHLD})


@contextmanager
def block_signals() -> Iterator[set[int]]:
    """Block the signals to wait for; yield the signal mask that was set before.

    That mask is set again if the block raises. If it does not, the signals were waited for, and
    this process is about to end.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, list_awaited_signals())
    try:
        yield {int(number) for number in mask}
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise


def is_in_foreground() -> bool:
    """Return whether this process is in the foreground of a terminal, whose keys are signals."""
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
