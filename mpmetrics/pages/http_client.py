"""A client of HTTP that has an answer within a time limit, or none.

http.client speaks the protocol. The libraries above it (urllib.request, urllib3, httpx) limit the
time of each wait for bytes, so that a server which sends a byte now and then holds them for ever;
here the whole exchange has one deadline, and a redirection follows rules of its own.
"""

from __future__ import annotations

import base64
import http.client
import io
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from _typeshed import WriteableBuffer

    from mpmetrics.pages.http_config import HttpConfig, HttpSettings

_OK: Final = 200
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS: Final = 10
_PORTS: Final = {"http": 80, "https": 443}
_LONGEST_NAME: Final = 200
_BEGINNING: Final = 6
"""Characters of a secret that no message has together."""


class HttpError(Exception):
    """An exchange that has failed; the message has no query, password or token of a URL."""


class Url(NamedTuple):
    """The parts of an http or https URL; *path* has the query, *user_info* is as in the URL.

    *name* is the URL without user info, query and fragment, so that it can be shown.
    """

    scheme: str
    host: str
    port: int
    path: str
    user_info: str
    name: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """The server that the URL is of."""
        return self.scheme, self.host, self.port

    @property
    def location(self) -> str:
        """Host and port as they stand in a URL, without the port that the scheme has."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse_url(text: str) -> Url:
    """Return the parts of the URL *text*. Raises `HttpError` for one that cannot be asked."""
    try:
        parts: SplitResult = urlsplit(text)
        port = parts.port
    except ValueError:
        message = "it is not a URL"
        raise HttpError(message) from None
    if parts.scheme not in _PORTS:
        message = "only http and https URLs can be scraped"
        raise HttpError(message)
    host = parts.hostname or ""
    path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    if not host or not _is_plain(host) or not _is_plain(path):
        message = "it is not a URL, or has characters that have to be escaped"
        raise HttpError(message)
    user_info, _, location = parts.netloc.rpartition("@")
    name = f"{parts.scheme}://{location}{parts.path}"[:_LONGEST_NAME]
    port = _PORTS[parts.scheme] if port is None else port
    return Url(parts.scheme, host, port, path, user_info, name)


@contextmanager
def open_url(
    url: Url, settings: HttpSettings, headers: Mapping[str, str], deadline: float
) -> Iterator[http.client.HTTPResponse]:
    """Ask for *url*, follow redirections, and yield the answer, which has the status 200.

    The whole exchange, with the reading of the answer, ends at *deadline*, which is on the
    monotonic clock, by a `TimeoutError`. Raises `HttpError`, `SourceConfigError` or `OSError`.
    """
    config = settings.read()
    first = url
    authorization = config.authorization() or _basic(url.user_info)
    for _ in range(_MOST_REDIRECTS + 1):
        secret = {"Authorization": authorization} if authorization and _trusts(first, url) else {}
        with _connect(url, settings, deadline) as connection:
            response = _request(connection, url, {**headers, **secret})
            if response.status == _OK:
                with _translated():
                    yield response
                return
            location = response.headers.get("Location", "")
            if response.status not in _REDIRECTS or not location or not config.follow_redirects:
                message = f"the status of its answer is {response.status}"
                raise HttpError(message)
        url = _follow(url, location, config.redirect_hosts | {first.host})
    message = f"it has more than {_MOST_REDIRECTS} redirections"
    raise HttpError(message)


class _TimedSocket:
    """A socket for http.client whose every wait ends at one deadline."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._socket = sock
        self._deadline = deadline

    def limit(self) -> socket.socket:
        """Return the socket, which waits for the rest of the time. Raises `TimeoutError`."""
        self._socket.settimeout(time_left(self._deadline))
        return self._socket

    def sendall(self, data: bytes) -> None:
        """Send all *data*."""
        self.limit().sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return a file that reads from the socket."""
        return io.BufferedReader(_TimedReader(self))

    def close(self) -> None:
        """Do nothing: http.client closes the socket before it has read the answer."""


class _TimedReader(io.RawIOBase):
    """What is read of a socket."""

    def __init__(self, timed: _TimedSocket) -> None:
        self._timed = timed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        return self._timed.limit().recv_into(buffer)


def has_secret(text: str, url: Url, config: HttpConfig) -> bool:
    """Return whether *text* has the beginning of a secret with which *url* is asked for.

    That is a user, a password, a token or a part of the query. The text may be cut off.
    """
    authorization = config.authorization() or _basic(url.user_info)
    query = url.path.partition("?")[2]
    parts = [authorization.rpartition(" ")[2]]
    for given in (url.user_info, *_decoded(authorization)):
        parts += given.split(":")
    for pair in query.split("&"):
        parts += pair.split("=")
    beginnings = {each[:_BEGINNING] for part in parts for each in (part, unquote(part))}
    return any(each in text for each in beginnings - {""})


def time_left(deadline: float) -> float:
    """Return the seconds to *deadline*. Raises `TimeoutError` when it is over."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


@contextmanager
def _connect(
    url: Url, settings: HttpSettings, deadline: float
) -> Iterator[http.client.HTTPConnection]:
    """Connect to the server of *url*; yield a connection that has a socket."""
    with socket.create_connection((url.host, url.port), time_left(deadline)) as plain:
        sock = plain
        if url.scheme == "https":
            name = settings.read().tls.server_name or url.host
            plain.settimeout(time_left(deadline))
            sock = settings.tls_context().wrap_socket(plain, server_hostname=name)
        with sock:
            connection = http.client.HTTPConnection(url.host, url.port)
            connection.sock = _TimedSocket(sock, deadline)
            yield connection


def _request(
    connection: http.client.HTTPConnection, url: Url, headers: Mapping[str, str]
) -> http.client.HTTPResponse:
    """Send the request and return the answer, whatever its status."""
    with _translated():
        everything = {"Host": url.location, "Connection": "close", **headers}
        connection.request("GET", url.path, headers=everything)
        return connection.getresponse()


@contextmanager
def _translated() -> Iterator[None]:
    """Raise `HttpError` for what http.client finds wrong, which can be as long as the answer."""
    try:
        yield
    except http.client.HTTPException as error:
        message = f"it has not sent a whole answer of HTTP ({type(error).__name__})"
        raise HttpError(message) from None


def _follow(url: Url, location: str, hosts: frozenset[str]) -> Url:
    """Return the URL that an answer of *url* leads to. Raises `HttpError` if it must not be asked.

    It has to be on one of the *hosts*, and must not lead from https to http.
    """
    base = f"{url.scheme}://{url.location}{url.path}"
    try:
        target = parse_url(urljoin(base, location))
    except (HttpError, ValueError) as error:
        message = f"its redirection cannot be followed: {error}"
        raise HttpError(message) from None
    if target.host not in hosts and f"{target.host}:{target.port}" not in hosts:
        message = f"its redirection leads to {target.host!r}, which redirect_hosts does not allow"
        raise HttpError(message)
    if (url.scheme, target.scheme) == ("https", "http"):
        message = "its redirection leads from https to http"
        raise HttpError(message)
    return target


def _trusts(first: Url, url: Url) -> bool:
    """Return whether the password for *first* may be sent to *url*."""
    return url.origin == first.origin or (
        (first.scheme, url.scheme) == ("http", "https") and url.host == first.host
    )


def _basic(user_info: str) -> str:
    """Return the value of `Authorization` for the user and the password in a URL."""
    if not user_info:
        return ""
    user, _, password = user_info.partition(":")
    pair = f"{unquote(user)}:{unquote(password)}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _decoded(authorization: str) -> list[str]:
    """Return user and password that stand in a value of `Authorization`, as one text, if any."""
    scheme, _, content = authorization.partition(" ")
    return [base64.b64decode(content).decode()] if scheme == "Basic" else []


def _is_plain(text: str) -> bool:
    """Return whether *text* can be part of a request as it is."""
    return text.isascii() and text.isprintable() and " " not in text
