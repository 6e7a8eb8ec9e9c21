"""Where a server listens: ``HOST:PORT``, ``[IPv6]:PORT``, ``:PORT`` or ``unix:PATH``."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from mpmetrics.errors import ListenError

if TYPE_CHECKING:
    from typing_extensions import Self

DEFAULT_LISTEN: Final = "127.0.0.1:9464"
"""Loopback, and the port that OpenTelemetry has for Prometheus exporters."""

_UNIX: Final = "unix:"
_BACKLOG: Final = 128
_LARGEST_PORT: Final = 65535


class Address(NamedTuple):
    """An address to listen on: *host* ("" for all) and *port* (0 for any), or a unix *path*."""

    host: str
    port: int
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the address that *text* spells. Raises `ListenError`."""
        if text.startswith(_UNIX):
            path = text.removeprefix(_UNIX)
            if not path:
                raise ListenError(text, "there is no path behind unix:")
            return cls("", 0, path)
        host, colon, port = text.rpartition(":")
        is_bracketed = host.startswith("[") and host.endswith("]")
        if not colon or (":" in host and not is_bracketed):
            raise ListenError(text, "it is not of the form HOST:PORT, [IPv6]:PORT or unix:PATH")
        if not (port.isascii() and port.isdecimal() and int(port) <= _LARGEST_PORT):
            raise ListenError(text, f"{port!r} is not a port from 0 to {_LARGEST_PORT}")
        return cls(host[1:-1] if is_bracketed else host, int(port))

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class Listener:
    """An open socket that listens; a unix socket has a file, which goes with it."""

    def __init__(self, listen: str) -> None:
        """Listen on the address that *listen* spells. Raises `ListenError`."""
        self.address = Address.parse(listen)
        try:
            self.socket = (
                _listen_unix(self.address.path) if self.address.path else _listen_tcp(self.address)
            )
        except (OSError, UnicodeError) as error:
            raise ListenError(listen, _reason(error)) from error
        self._file = os.stat(self.address.path) if self.address.path else None

    def url(self, scheme: str = "http") -> str:
        """Return the address to connect to, with the port that was taken for port 0."""
        if self.address.path:
            return f"{_UNIX}{self.address.path}"
        host, port = self.socket.getsockname()[:2]
        if ":" in host:
            return f"{scheme}://[{quote(host, safe=':')}]:{port}"
        return f"{scheme}://{host}:{port}"

    def close(self) -> None:
        """Stop listening; remove the file of a unix socket, if it is still the one made here."""
        self.socket.close()
        if self._file is not None:
            with suppress(OSError):
                if os.path.samestat(os.stat(self.address.path), self._file):
                    os.unlink(self.address.path)


def _listen_tcp(address: Address) -> socket.socket:
    """Listen on the first address of a host name; "" is every interface."""
    if not address.host:
        dual = socket.has_dualstack_ipv6()
        return socket.create_server(
            ("", address.port),
            family=socket.AF_INET6 if dual else socket.AF_INET,
            dualstack_ipv6=dual,
            backlog=_BACKLOG,
        )
    found = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    # "localhost" is 127.0.0.1 for most clients, so IPv4 goes first.
    family, _, _, _, name = min(found, key=lambda each: each[0] != socket.AF_INET)
    return socket.create_server(name[:2], family=family, backlog=_BACKLOG)


def _listen_unix(path: str) -> socket.socket:
    """Listen on a socket in the file system; a stale one, without a listener, is replaced."""
    if not hasattr(socket, "AF_UNIX"):
        raise OSError(errno.EAFNOSUPPORT, "this system has no unix sockets")
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(path)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _remove_stale(path: str) -> None:
    """Remove the socket of a killed server at *path*. Raises `OSError` for anything else."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "there is a file that is not a socket")
    with socket.socket(socket.AF_UNIX) as probe, suppress(BlockingIOError):
        # A server that hangs has a queue of clients: a socket with a queue is in use.
        probe.settimeout(0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
