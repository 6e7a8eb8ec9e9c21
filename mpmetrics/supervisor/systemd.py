"""What systemd tells a service by variables, for the server that a wrapper starts (sd-daemon(3)).

`LISTEN_PID` and `WATCHDOG_PID` name the process that sockets and watchdog are meant for. systemd
means the process that it starts, which is the wrapper; the server is what has to use them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

NOTIFY_SOCKET: Final = "NOTIFY_SOCKET"
"""The variable that names the socket on which a service reports that it is ready."""

_PIDS: Final = ("LISTEN_PID", "WATCHDOG_PID", "SYSTEMD_EXEC_PID")

_PIDFD: Final = "LISTEN_PIDFDID"
"""The variable that has the inode of a pidfd: a pid that is not used again."""


def readdress(environment: Mapping[str, str], parent: int) -> dict[str, str]:
    """Return *environment* with the variables for the process *parent* meant for this process.

    Variables that are meant for a third process stay as they are.
    """
    changed = dict(environment)
    for name in _PIDS:
        if environment.get(name) == str(parent):
            changed[name] = str(os.getpid())
    if _PIDFD in changed and changed.get("LISTEN_PID") == str(os.getpid()):
        del changed[_PIDFD]
        pidfd = _read_pidfd_inode()
        if pidfd:
            changed[_PIDFD] = str(pidfd)
    return changed


def _read_pidfd_inode() -> int:
    """Return the inode of a pidfd of this process, 0 where the kernel gives all the same one."""
    try:
        mine, parents = os.pidfd_open(os.getpid()), os.pidfd_open(os.getppid())
    except OSError:
        return 0
    inodes = [os.fstat(descriptor).st_ino for descriptor in (mine, parents)]
    for descriptor in mine, parents:
        os.close(descriptor)
    return inodes[0] if inodes[0] != inodes[1] else 0
