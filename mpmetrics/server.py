"""A page over HTTP: WSGI and ASGI applications to mount in a server.

Both answer every path they are mounted at, so that the server's own routing decides: GET and
HEAD with the page, OPTIONS with what is allowed, anything else with 405. The format follows the
`Accept` header, `?name[]=` restricts the page, and it is compressed for those who can read that.
"""

from __future__ import annotations

import asyncio
import gzip
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qs

from mpmetrics.negotiation import accepts_gzip, choose_format

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

    from mpmetrics.page import Page

    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]
    AsgiApp = Callable[[dict[str, Any], Receive, Send], Coroutine[Any, Any, None]]
    WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_ALLOW: Final = "GET, HEAD, OPTIONS"

# Level 1 is nearly as small as 9 for such repetitive text, and several times as quick.
_GZIP_LEVEL: Final = 1


class Request(NamedTuple):
    """What matters of a request for a page: method, query string and two headers."""

    method: str
    query: str
    accept: str
    accept_encoding: str


class Response(NamedTuple):
    """What the applications send."""

    status: HTTPStatus
    headers: list[tuple[str, str]]
    body: bytes


def respond(page: Page, request: Request) -> Response:
    """Answer a *request* with the *page*."""
    if request.method == "OPTIONS":
        return Response(HTTPStatus.NO_CONTENT, [("Allow", _ALLOW)], b"")
    if request.method not in {"GET", "HEAD"}:
        message = f"{request.method} is not allowed here; use {_ALLOW}\n".encode()
        headers = [("Allow", _ALLOW), ("Content-Type", "text/plain; charset=utf-8")]
        return Response(HTTPStatus.METHOD_NOT_ALLOWED, headers, message)
    form = choose_format(request.accept)
    body = page.write(form, parse_qs(request.query).get("name[]", ()))
    headers = [("Content-Type", form.content_type), ("Vary", "Accept, Accept-Encoding")]
    if accepts_gzip(request.accept_encoding):
        body = gzip.compress(body, _GZIP_LEVEL)
        headers.append(("Content-Encoding", "gzip"))
    headers.append(("Content-Length", str(len(body))))
    return Response(HTTPStatus.OK, headers, b"" if request.method == "HEAD" else body)


def make_wsgi_app(page: Page) -> WsgiApp:
    """Return a WSGI application that serves *page*."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        request = Request(
            environ["REQUEST_METHOD"],
            environ.get("QUERY_STRING", ""),
            environ.get("HTTP_ACCEPT", ""),
            environ.get("HTTP_ACCEPT_ENCODING", ""),
        )
        status, headers, body = respond(page, request)
        start_response(f"{status.value} {status.phrase}", headers)
        return [body]

    return application


def make_asgi_app(page: Page) -> AsgiApp:
    """Return an ASGI application that serves *page*; it collects in a thread, off the loop."""

    async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        headers = _joined_headers(scope["headers"])
        request = Request(
            scope["method"],
            scope.get("query_string", b"").decode("latin-1"),
            headers.get(b"accept", ""),
            headers.get(b"accept-encoding", ""),
        )
        status, response_headers, body = await asyncio.to_thread(respond, page, request)
        raw = [(name.lower().encode(), value.encode()) for name, value in response_headers]
        await send({"type": "http.response.start", "status": status.value, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    return application


def _joined_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, str]:
    """Return headers by lower-case name; one that is sent twice is one list (RFC 9110, 5.3)."""
    joined: dict[bytes, str] = {}
    for name, value in headers:
        text = value.decode("latin-1")
        known = joined.get(name.lower())
        joined[name.lower()] = text if known is None else f"{known}, {text}"
    return joined


async def _live(receive: Receive, send: Send) -> None:
    """Take part in the lifespan protocol; there is nothing to start or stop."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
