"""A page over HTTP: WSGI and ASGI applications to mount in a server.

Both answer every path they are mounted at, so that the server's own routing decides: GET and
HEAD with the page, OPTIONS with what is allowed, anything else with 405. The format follows the
`Accept` header, `?name[]=` restricts the page, and it is compressed for those who can read that.

A site is such an application with the paths of an exporter, for a server that has nothing else.
"""

from __future__ import annotations

import asyncio
import gzip
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qs

from mpmetrics._text import one_line
from mpmetrics.exposition import accepts_gzip, choose_format, time_limit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping

    from mpmetrics.pages import Page

    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]
    AsgiApp = Callable[[dict[str, Any], Receive, Send], Coroutine[Any, Any, None]]
    Answer = Callable[[str, "Request"], "Response"]
    WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_ALLOW: Final = "GET, HEAD, OPTIONS"

# Level 1 is nearly as small as 9 for such repetitive text, and several times as quick.
_GZIP_LEVEL: Final = 1


class Request(NamedTuple):
    """What matters of a request for a page: method, query string and three headers.

    The last one is `X-Prometheus-Scrape-Timeout-Seconds`.
    """

    method: str
    query: str
    accept: str
    accept_encoding: str
    scrape_timeout: str


class Response(NamedTuple):
    """What the applications send."""

    status: HTTPStatus
    headers: list[tuple[str, str]]
    body: bytes


def respond(page: Page, request: Request) -> Response:
    """Answer a *request* with the *page*."""
    refusal = _refusal(request.method)
    if refusal is not None:
        return refusal
    form = choose_format(request.accept)
    names = parse_qs(request.query).get("name[]", ())
    body = page.write(form, names, within=time_limit(request.scrape_timeout))
    headers = [("Content-Type", form.content_type), ("Vary", "Accept, Accept-Encoding")]
    if accepts_gzip(request.accept_encoding):
        body = gzip.compress(body, _GZIP_LEVEL)
        headers.append(("Content-Encoding", "gzip"))
    headers.append(("Content-Length", str(len(body))))
    return Response(HTTPStatus.OK, headers, b"" if request.method == "HEAD" else body)


def _refusal(method: str) -> Response | None:
    """Return the answer to a *method* that no page is sent for, None for GET and HEAD."""
    if method in {"GET", "HEAD"}:
        return None
    if method == "OPTIONS":
        return Response(HTTPStatus.NO_CONTENT, [("Allow", _ALLOW)], b"")
    text = f"{method} is not allowed here; use {_ALLOW}"
    status, headers, body = _short(HTTPStatus.METHOD_NOT_ALLOWED, text)
    return Response(status, [("Allow", _ALLOW), *headers], body)


def _short(status: HTTPStatus, text: str, kind: str = "text/plain") -> Response:
    """Return a *text* as a whole response."""
    body = f"{text}\n".encode()
    headers = [("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(body)))]
    return Response(status, headers, body)


class Site:
    """The paths of an exporter: the page, whether it is well and ready, and an index."""

    def __init__(self, page: Page) -> None:
        """Serve *page* as /metrics."""
        self._page = page
        self._paths: Mapping[str, Callable[[], Response]] = {
            "/": lambda: _short(HTTPStatus.OK, _INDEX, "text/html"),
            "/-/healthy": lambda: _short(HTTPStatus.OK, "mpmetrics is healthy"),
            "/-/ready": self._ready,
        }

    def respond(self, path: str, request: Request) -> Response:
        """Answer a *request* for *path*."""
        if path in {"/metrics", "/metrics/"}:
            return respond(self._page, request)
        answer = self._paths.get(path)
        if answer is None:
            response = _short(HTTPStatus.NOT_FOUND, "there is nothing here; see /metrics")
        else:
            response = _refusal(request.method) or answer()
        return response._replace(body=b"") if request.method == "HEAD" else response

    def _ready(self) -> Response:
        """Say whether every directory of the page can be read."""
        why = self._page.readiness_errors()
        if why:
            return _short(HTTPStatus.SERVICE_UNAVAILABLE, "\n".join(map(one_line, why)))
        return _short(HTTPStatus.OK, "mpmetrics is ready")


_INDEX: Final = """\
<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>mpmetrics</title></head>
<body>
<h1>mpmetrics</h1>
<ul>
<li><a href="/metrics">Metrics</a></li>
<li><a href="/-/healthy">Healthy?</a></li>
<li><a href="/-/ready">Ready?</a></li>
</ul>
</body>
</html>"""


def make_wsgi_app(page: Page) -> WsgiApp:
    """Return a WSGI application that serves *page*."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        request = Request(
            environ["REQUEST_METHOD"],
            environ.get("QUERY_STRING", ""),
            environ.get("HTTP_ACCEPT", ""),
            environ.get("HTTP_ACCEPT_ENCODING", ""),
            environ.get("HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS", ""),
        )
        status, headers, body = respond(page, request)
        start_response(f"{status.value} {status.phrase}", headers)
        return [body]

    return application


def make_asgi_app(page: Page) -> AsgiApp:
    """Return an ASGI application that serves *page*; it collects in a thread, off the loop."""
    return _asgi(lambda _, request: respond(page, request))


def make_asgi_site(page: Page) -> AsgiApp:
    """Return an ASGI application with the paths of an exporter, of which one is *page*."""
    return _asgi(Site(page).respond)


def _asgi(answer: Answer) -> AsgiApp:
    """Return an ASGI application that has *answer* called in a thread."""
    flights = _Flights(answer)

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
            headers.get(b"x-prometheus-scrape-timeout-seconds", ""),
        )
        status, response_headers, body = await flights.response(scope.get("path", ""), request)
        raw = [(name.lower().encode(), value.encode()) for name, value in response_headers]
        await send({"type": "http.response.start", "status": status.value, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    return application


class _Flights:
    """Equal requests that overlap get one and the same response: formatted and packed once."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._tasks: dict[tuple[object, ...], asyncio.Task[Response]] = {}

    async def response(self, path: str, request: Request) -> Response:
        """Return the answer, or wait for the one that is being made."""
        loop = asyncio.get_running_loop()
        key = loop, path, request
        task = self._tasks.get(key)
        if task is None:
            task = loop.create_task(asyncio.to_thread(self._answer, path, request))
            self._tasks[key] = task
            task.add_done_callback(lambda _: self._tasks.pop(key))
        # A client that goes away must not take the answer from the others.
        return await asyncio.shield(task)


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
