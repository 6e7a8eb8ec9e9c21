"""Who may see a site: basic authentication (RFC 7617) around an ASGI application.

Passwords are compared with bcrypt hashes, which is slow on purpose. So a pair that was right once
is remembered, as a keyed hash, and a scrape is not delayed each time. A user that does not exist
costs as much time as a wrong password. Whoever guesses keeps one thread busy, which pages do not
need.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import secrets
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mpmetrics.web.apps import AsgiApp, Receive, Send

_REMEMBERED: Final = 100
"""Right pairs of user and password that are remembered."""

_LONGEST_PASSWORD: Final = 72
"""Bytes of a password that bcrypt looks at; newer releases refuse longer ones."""

# Of a hash, which begins with the algorithm: $2b$10$ and so on.
_COST: Final = slice(4, 6)


class Users:
    """Who may come in: bcrypt hashes by user name."""

    def __init__(self, users: Mapping[str, bytes]) -> None:
        """Let in the *users* with their passwords."""
        self._users = users
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._costliest = max(users.values(), key=lambda hashed: hashed[_COST], default=b"")
        # One hash at a time: whoever guesses may use one processor, not all. And not in the pool
        # of the event loop, where pages would have to wait until all the guesses are judged.
        self._hasher = ThreadPoolExecutor(1, thread_name_prefix="mpmetrics-password")

    def knows(self, user: str, password: bytes) -> bool:
        """Tell whether this has been found right before."""
        return self._digest(user, password) in self._right

    async def check(self, user: str, password: bytes) -> bool:
        """Tell whether *password* is that of *user*. Takes a tenth of a second, or more."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._hasher, self._check, user, password)

    def _check(self, user: str, password: bytes) -> bool:
        import bcrypt  # only who has users needs it

        if self.knows(user, password):
            return True
        hashed = self._users.get(user)
        is_right = bcrypt.checkpw(password[:_LONGEST_PASSWORD], hashed or self._costliest)
        if not (is_right and hashed):
            return False
        self._right[self._digest(user, password)] = None
        if len(self._right) > _REMEMBERED:
            self._right.popitem(last=False)
        return True

    def _digest(self, user: str, password: bytes) -> bytes:
        text = b"%d:%b%b" % (len(user.encode()), user.encode(), password)
        return hashlib.blake2b(text, key=self._key).digest()


def parse_authorization(header: str) -> tuple[str, bytes] | None:
    """Return user and password of an `Authorization` header, None if it has none."""
    scheme, _, encoded = header.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True)
        user, colon, password = decoded.partition(b":")
        # A NUL would end the password for bcrypt.
        return (user.decode(), password) if colon and b"\0" not in password else None
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None


def require_basic_auth(
    application: AsgiApp, users: Mapping[str, bytes], headers: Sequence[tuple[str, str]] = ()
) -> AsgiApp:
    """Return *application* for *users* only, if there are any, with *headers* in each response."""
    known = Users(users)
    added = [(name.lower().encode(), value.encode()) for name, value in headers]

    async def guard(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        async def send_with_headers(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        if scope["type"] != "http" or not users or await _is_let_in(known, scope):
            await application(scope, receive, send_with_headers)
        else:
            await _turn_away(send_with_headers)

    return guard


async def _is_let_in(users: Users, scope: dict[str, Any]) -> bool:
    """Tell whether the request of *scope* comes from one of the *users*."""
    given = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
    credentials = parse_authorization(given[0].decode("latin-1")) if len(given) == 1 else None
    if credentials is None:
        return False
    return users.knows(*credentials) or await users.check(*credentials)


async def _turn_away(send: Send) -> None:
    """Ask for a password."""
    body = b"user and password are needed\n"
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"www-authenticate", b'Basic realm="mpmetrics", charset="UTF-8"'),
    ]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": body})
