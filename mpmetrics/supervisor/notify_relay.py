"""What a server reports to systemd (sd_notify(3)), passed on by the wrapper.

systemd takes reports from the main process of a service, and that is the wrapper. So the server
gets a socket of the wrapper in `NOTIFY_SOCKET`, and the wrapper sends on what arrives there: that
the server is ready, its status, its signs of life for the watchdog, and the descriptors that come
with them. Only `MAINPID` is left out, since the wrapper stays the main process.
"""

from __future__ import annotations

import array
import os
import secrets
import select
import socket
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from mpmetrics._log_limit import get_log
from mpmetrics.system import UNREADABLE, list_descendants

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = get_log()

_LARGEST: Final = 1 << 16
"""Bytes of the largest report; systemd itself takes 4096."""

_MOST_DESCRIPTORS: Final = 253  # SCM_MAX_FD
_CREDENTIALS: Final = struct.Struct("iII")  # pid, uid, gid

_LONGEST_SEND: Final = 5.0
"""Seconds that systemd may keep a report waiting; reports of the server wait meanwhile."""

_LONGEST_STOP: Final = 6.0

_LAST: Final = 1000
"""How many reports that wait at the end are passed on."""

_LEFT_OUT: Final = (b"MAINPID=", b"MAINPIDFD=", b"MAINPIDFDID=")


class NotifyRelay:
    """A socket for the server's reports, and a thread that sends them to the socket *target*."""

    def __init__(self, target: str) -> None:
        """Open the socket; *target* is what systemd has put into `NOTIFY_SOCKET`."""
        self._target = f"\0{target[1:]}" if target.startswith("@") else target
        # Not a path: the server may be another user, or have another root directory.
        name = f"mpmetrics-notify-{secrets.token_hex(8)}"
        self.address = f"@{name}"
        self._source = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._source.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._source.setblocking(False)  # noqa: FBT003 - the standard library's signature
        self._source.bind(f"\0{name}")
        self._sink = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sink.settimeout(_LONGEST_SEND)
        self._wake_reader, self._wake_writer = os.pipe()
        self._thread = threading.Thread(target=self._relay, name="mpmetrics-notify", daemon=True)

    def start(self) -> None:
        """Start the thread; what has been reported before is passed on, too."""
        self._thread.start()

    def stop(self) -> None:
        """Pass on what has been reported, within seconds, and close everything."""
        os.close(self._wake_writer)
        if self._thread.ident is None:
            self._close()
        else:
            self._thread.join(_LONGEST_STOP)

    def _close(self) -> None:
        self._source.close()
        self._sink.close()
        os.close(self._wake_reader)

    def _relay(self) -> None:
        poll = select.poll()
        for waited in self._source.fileno(), self._wake_reader:
            poll.register(waited, select.POLLIN)
        while self._wake_reader not in {descriptor for descriptor, _ in poll.poll()}:
            self._pass_on()
        for _ in range(_LAST):
            if not self._pass_on():
                break
        self._close()

    def _pass_on(self) -> bool:
        """Pass on a report, if one waits; return whether one did."""
        room = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(4 * _MOST_DESCRIPTORS)
        try:
            report, ancillary, flags, _ = self._source.recvmsg(
                _LARGEST, room, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return False
        except OSError as error:
            _log.warning("a report to systemd was lost: %s", error.strerror)
            return True
        user, descriptors = _parse_ancillary(ancillary)
        try:
            lines = leave_out_main(report)
            if lines and not flags & socket.MSG_TRUNC and _is_of_server(user):
                self._send(lines, descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _send(self, report: bytes, descriptors: Sequence[int]) -> None:
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
        try:
            self._sink.sendmsg([report], [rights] if descriptors else [], 0, self._target)
        except OSError as error:
            _log.warning("a report of the server did not reach systemd: %s", error)


def open_relay(target: str) -> NotifyRelay | None:
    """Return a relay to *target*, None if that is no socket on this machine, or without memory."""
    if not target.startswith(("/", "@")):
        return None
    try:
        return NotifyRelay(target)
    except OSError as error:
        _log.warning("the server reports to systemd itself: %s", error)
        return None


def leave_out_main(report: bytes) -> bytes:
    """Return the lines of a *report* without those that name the main process of the service."""
    return b"\n".join(line for line in report.split(b"\n") if not line.startswith(_LEFT_OUT))


def _parse_ancillary(ancillary: Sequence[tuple[int, int, bytes]]) -> tuple[int, list[int]]:
    """Return the user id of the sender, -1 if that is not known, and the descriptors that came."""
    user, descriptors = -1, array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            _, user, _ = _CREDENTIALS.unpack(data[: _CREDENTIALS.size])
        elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return user, [*descriptors]


def _is_of_server(user: int) -> bool:
    """Return whether a process of the server may have sent a report as *user*."""
    if user in {0, os.geteuid()}:
        return True
    users = set()
    for process in list_descendants(os.getpid()):
        with suppress(*UNREADABLE):
            users.add(process.handle.uids().effective)
    return user in users
