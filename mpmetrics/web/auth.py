"""Basic authentication (RFC 7617) around an ASGI application.

A pair of user and password that was compared before is answered at once. Any other waits for its
turn in the `PasswordQueue`, unless its client goes away.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from mpmetrics.web.networks import network_of
from mpmetrics.web.password_queue import PasswordQueue, QueueFullError
from mpmetrics.web.users import Users, check_bcrypt

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, MutableMapping, Sequence
    from typing import Any

    from mpmetrics.web.apps import AsgiApp, Receive, Scope, Send
    from mpmetrics.web.networks import KnownNetworks
    from mpmetrics.web.users import CheckPassword


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


class Gate:
    """What decides who may use an application: its users, and the queue of their passwords."""

    def __init__(
        self,
        users: Mapping[str, bytes],
        known: KnownNetworks,
        check_password: CheckPassword = check_bcrypt,
    ) -> None:
        """Admit these *users*, or everyone if there are none; prefer networks that are *known*."""
        self._users = Users(users, check_password)
        self._queue = PasswordQueue(self._users, known)

    async def judge(self, scope: Scope, receive: Receive) -> HTTPStatus | None:
        """Return the status of the answer that the request of *scope* deserves: OK if it may pass.

        It is None if the client goes away before its password is compared.
        """
        if not self._users:
            return HTTPStatus.OK
        given = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
        credentials = parse_authorization(given[0].decode("latin-1")) if len(given) == 1 else None
        if credentials is None:
            return HTTPStatus.UNAUTHORIZED
        is_right = self._users.recall(*credentials)
        if is_right is None:
            waiting = self._queue.run(network_of(scope.get("client")), *credentials)
            try:
                is_right = await _unless_gone(receive, waiting)
            except QueueFullError:
                return HTTPStatus.TOO_MANY_REQUESTS
        if is_right is None:
            return None
        return HTTPStatus.OK if is_right else HTTPStatus.UNAUTHORIZED

    def close(self) -> None:
        """Give up all comparisons; call it in the event loop."""
        self._queue.close()


async def _unless_gone(receive: Receive, waiting: Coroutine[Any, Any, bool]) -> bool | None:
    """Return the result of *waiting*, or None if the client disconnects before; then cancel it."""
    task = asyncio.ensure_future(waiting)
    gone = asyncio.ensure_future(_wait_for_disconnect(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _wait_for_disconnect(receive: Receive) -> None:
    """Read messages until the client has gone; nothing behind this needs a request's body."""
    while (await receive())["type"] != "http.disconnect":
        pass


def require_basic_auth(
    application: AsgiApp, gate: Gate, headers: Sequence[tuple[str, str]] = ()
) -> AsgiApp:
    """Return *application* for those whom *gate* lets pass, with *headers* in each response."""
    added = [(name.lower().encode(), value.encode()) for name, value in headers]

    async def authenticating_application(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        is_request = scope["type"] == "http"
        status = await gate.judge(scope, receive) if is_request else HTTPStatus.OK
        if status is HTTPStatus.OK:
            await application(scope, receive, send_with_headers)
        elif status is not None:
            await _refuse(status, send_with_headers)

    return authenticating_application


_REFUSALS: Final = {
    HTTPStatus.UNAUTHORIZED: (
        b"user and password are needed\n",
        (b"www-authenticate", b'Basic realm="mpmetrics", charset="UTF-8"'),
    ),
    HTTPStatus.TOO_MANY_REQUESTS: (
        b"too many passwords are waiting to be compared\n",
        (b"retry-after", b"1"),
    ),
}
"""The body and a header for each status with which a request is refused."""


async def _refuse(status: HTTPStatus, send: Send) -> None:
    """Send a response that refuses a request with *status*."""
    body, header = _REFUSALS[status]
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        header,
    ]
    await send({"type": "http.response.start", "status": status.value, "headers": headers})
    await send({"type": "http.response.body", "body": body})
