"""Basic authentication (RFC 7617) around an ASGI application.

Passwords are compared with bcrypt hashes, which is slow on purpose. A pair of user and password
that was right once is remembered, as a keyed hash, so that scrapes are not delayed each time. An
unknown user costs as much time as a wrong password. Guesses keep one thread busy, which pages do
not need.
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
    from collections.abc import Callable, Mapping, MutableMapping, Sequence

    from mpmetrics.web.apps import AsgiApp, Receive, Scope, Send

    CheckPassword = Callable[[bytes, bytes], bool]
    """Returns whether a password (first) has a hash (second)."""

_REMEMBERED: Final = 100
"""Right pairs of user and password that are remembered."""

_LONGEST_PASSWORD: Final = 72
"""Bytes of a password that bcrypt looks at; newer releases refuse longer ones."""

# Of a hash, which begins with the algorithm: $2b$10$ and so on.
_COST: Final = slice(4, 6)


def check_bcrypt(password: bytes, hashed: bytes) -> bool:
    """Return whether *hashed* is bcrypt's hash of *password*, after a tenth of a second or more."""
    import bcrypt  # only servers with users need it

    return bcrypt.checkpw(password[:_LONGEST_PASSWORD], hashed)


class Users:
    """The users of a server, with the bcrypt hashes of their passwords by name."""

    def __init__(
        self, users: Mapping[str, bytes], check_password: CheckPassword = check_bcrypt
    ) -> None:
        """Admit these *users*; *check_password* is called in a thread, once at a time."""
        self._users = users
        self._check_password = check_password
        self._key = secrets.token_bytes(32)
        self._verified: OrderedDict[bytes, None] = OrderedDict()
        self._costliest = max(users.values(), key=lambda hashed: hashed[_COST], default=b"")
        # One hash at a time: guesses may use one processor, not all. And not in the pool of the
        # event loop, where pages would have to wait until all the guesses are judged.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="mpmetrics-password")

    def is_remembered(self, user: str, password: bytes) -> bool:
        """Return whether `verify` has found this pair right before."""
        return self._digest(user, password) in self._verified

    async def verify(self, user: str, password: bytes) -> bool:
        """Return whether *password* is that of *user*; compute a hash unless it is remembered."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._verify, user, password)

    def _verify(self, user: str, password: bytes) -> bool:
        if self.is_remembered(user, password):
            return True
        hashed = self._users.get(user)
        is_right = self._check_password(password, hashed or self._costliest)
        if not (is_right and hashed):
            return False
        self._verified[self._digest(user, password)] = None
        if len(self._verified) > _REMEMBERED:
            self._verified.popitem(last=False)
        return True

    def _digest(self, user: str, password: bytes) -> bytes:
        text = b"%d:%b%b" % (len(user.encode()), user.encode(), password)
        return hashlib.blake2b(text, key=self._key).digest()


def parse_authorization(header: str) -> tuple[str, bytes] | None:
    """Return user and password of an `Authorization` header; None if it has none."""
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
    application: AsgiApp,
    users: Mapping[str, bytes],
    headers: Sequence[tuple[str, str]] = (),
    check_password: CheckPassword = check_bcrypt,
) -> AsgiApp:
    """Return *application* for *users* only, if there are any, with *headers* in each response."""
    known = Users(users, check_password)
    added = [(name.lower().encode(), value.encode()) for name, value in headers]

    async def authenticating_application(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        if scope["type"] != "http" or not users or await _is_authorized(known, scope):
            await application(scope, receive, send_with_headers)
        else:
            await _send_challenge(send_with_headers)

    return authenticating_application


async def _is_authorized(users: Users, scope: Scope) -> bool:
    """Return whether the request of *scope* has the name and password of one of the *users*."""
    given = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
    credentials = parse_authorization(given[0].decode("latin-1")) if len(given) == 1 else None
    if credentials is None:
        return False
    return users.is_remembered(*credentials) or await users.verify(*credentials)


async def _send_challenge(send: Send) -> None:
    """Send a response that asks for user and password."""
    body = b"user and password are needed\n"
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"www-authenticate", b'Basic realm="mpmetrics", charset="UTF-8"'),
    ]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": body})
