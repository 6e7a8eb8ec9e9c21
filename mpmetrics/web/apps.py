"""A page over HTTP: WSGI and ASGI applications to mount in a server.

Both answer every path they are mounted at, so that the server's own routing decides: GET and
HEAD with the page, OPTIONS with the allowed methods, any other method with 405. The format follows
the `Accept` header, `?name[]=` restricts the page, and gzip compresses it for clients that accept
that.

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
from mpmetrics.pages import as_page
from mpmetrics.web.outgoing import OutgoingPages

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, MutableMapping

    from mpmetrics.pages import Page, PageLike

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    # Each framework has types of its own for the arguments: mappings, or typed dictionaries.
    AsgiApp = Callable[[Any, Any, Any], Coroutine[Any, Any, None]]
    Responder = Callable[[str, "Request"], "Response"]
    WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_PAGE_METHODS: Final = frozenset({"GET", "HEAD"})
_ALLOW: Final = "GET, HEAD, OPTIONS"

PAGE_PATHS: Final = frozenset({"/metrics", "/metrics/"})
"""The paths at which a site has its page."""

# Level 1 is nearly as small as 9 for such repetitive text, and several times as quick.
_GZIP_LEVEL: Final = 1


class Request(NamedTuple):
    """The parts of a request that a page depends on: method, query string and three headers.

    The last one is `X-Prometheus-Scrape-Timeout-Seconds`.
    """

    method: str
    query: str
    accept: str
    accept_encoding: str
    scrape_timeout: str


class Response(NamedTuple):
    """The status, headers and body that an application sends."""

    status: HTTPStatus
    headers: list[tuple[str, str]]
    body: bytes


def respond_with_page(page: Page, request: Request) -> Response:
    """Answer a *request* with the *page*."""
    if request.method not in _PAGE_METHODS:
        return _respond_to_method(request.method)
    form = choose_format(request.accept)
    names = parse_qs(request.query).get("name[]", ())
    body = page.write(form, names, within=time_limit(request.scrape_timeout))
    headers = [("Content-Type", form.content_type), ("Vary", "Accept, Accept-Encoding")]
    if accepts_gzip(request.accept_encoding):
        body = gzip.compress(body, _GZIP_LEVEL)
        headers.append(("Content-Encoding", "gzip"))
    headers.append(("Content-Length", str(len(body))))
    return Response(HTTPStatus.OK, headers, b"" if request.method == "HEAD" else body)


def _respond_to_method(method: str) -> Response:
    """Answer a *method* that is not among `_PAGE_METHODS`."""
    if method == "OPTIONS":
        return Response(HTTPStatus.NO_CONTENT, [("Allow", _ALLOW)], b"")
    text = f"{method} is not allowed here; use {_ALLOW}"
    status, headers, body = _make_response(HTTPStatus.METHOD_NOT_ALLOWED, text)
    return Response(status, [("Allow", _ALLOW), *headers], body)


def _make_response(status: HTTPStatus, text: str, media_type: str = "text/plain") -> Response:
    """Return a response with a *text*."""
    body = f"{text}\n".encode()
    headers = [("Content-Type", f"{media_type}; charset=utf-8"), ("Content-Length", str(len(body)))]
    return Response(status, headers, body)


class Site:
    """The paths of an exporter: the page, health, readiness, and an index."""

    def __init__(self, page: Page) -> None:
        """Serve *page* as /metrics."""
        self._page = page
        self._paths: Mapping[str, Callable[[], Response]] = {
            "/": lambda: _make_response(HTTPStatus.OK, _INDEX, "text/html"),
            "/-/healthy": lambda: _make_response(HTTPStatus.OK, "mpmetrics is healthy"),
            "/-/ready": self._respond_readiness,
        }

    def respond(self, path: str, request: Request) -> Response:
        """Answer a *request* for *path*."""
        if path in PAGE_PATHS:
            return respond_with_page(self._page, request)
        make_response = self._paths.get(path)
        if make_response is None:
            response = _make_response(HTTPStatus.NOT_FOUND, "there is nothing here; see /metrics")
        elif request.method in _PAGE_METHODS:
            response = make_response()
        else:
            response = _respond_to_method(request.method)
        return response._replace(body=b"") if request.method == "HEAD" else response

    def _respond_readiness(self) -> Response:
        """Answer whether every directory of the page can be read."""
        errors = self._page.readiness_errors()
        if errors:
            return _make_response(HTTPStatus.SERVICE_UNAVAILABLE, "\n".join(map(one_line, errors)))
        return _make_response(HTTPStatus.OK, "mpmetrics is ready")


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


def make_wsgi_app(page: PageLike) -> WsgiApp:
    """Return a WSGI application that serves *page*.

    *page* is a `Page`, or what a `Page` takes: a registry, a `Registration`, the path of a
    multiprocess directory, or a list of sources. Raises `SourceError` for anything else.
    """
    served = as_page(page)

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        request = Request(
            environ["REQUEST_METHOD"],
            environ.get("QUERY_STRING", ""),
            environ.get("HTTP_ACCEPT", ""),
            environ.get("HTTP_ACCEPT_ENCODING", ""),
            environ.get("HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS", ""),
        )
        status, headers, body = respond_with_page(served, request)
        start_response(f"{status.value} {status.phrase}", headers)
        return [body]

    return application


def make_asgi_app(page: PageLike) -> AsgiApp:
    """Return an ASGI application that serves *page*; a thread makes the page, not the loop.

    *page* is what `make_wsgi_app` takes. Raises `SourceError` for anything else.
    """
    served = as_page(page)
    return _make_application(lambda _, request: respond_with_page(served, request))


def make_asgi_site(page: Page) -> AsgiApp:
    """Return an ASGI application with the paths of an exporter, of which one is *page*."""
    return _make_application(Site(page).respond)


def _make_application(responder: Responder) -> AsgiApp:
    """Return an ASGI application that calls *responder* in a thread."""
    responses = _SharedResponses(responder)
    outgoing = OutgoingPages()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _complete_lifespan(receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        headers = _join_headers(scope["headers"])
        request = Request(
            scope["method"],
            scope.get("query_string", b"").decode("latin-1"),
            headers.get(b"accept", ""),
            headers.get(b"accept-encoding", ""),
            headers.get(b"x-prometheus-scrape-timeout-seconds", ""),
        )
        response = await responses.get(scope.get("path", ""), request)
        status, response_headers = response.status, response.headers
        waiting = outgoing.begin(response.body)
        del response  # whose body may have to go before it is sent
        raw = [(name.lower().encode(), value.encode()) for name, value in response_headers]
        await send({"type": "http.response.start", "status": status.value, "headers": raw})
        await outgoing.send(waiting, send)

    return application


class _SharedResponses:
    """Responses that overlapping equal requests share: each is formatted and compressed once."""

    def __init__(self, responder: Responder) -> None:
        self._responder = responder
        self._tasks: dict[tuple[object, ...], asyncio.Task[Response]] = {}

    async def get(self, path: str, request: Request) -> Response:
        """Wait for the response to an equal request that is in progress, or make one."""
        loop = asyncio.get_running_loop()
        key = loop, path, request
        task = self._tasks.get(key)
        if task is None:
            task = loop.create_task(asyncio.to_thread(self._responder, path, request))
            self._tasks[key] = task
            task.add_done_callback(lambda _: self._tasks.pop(key))
        # A client that goes away must not cancel the response of the others.
        return await asyncio.shield(task)


def _join_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, str]:
    """Return headers by lower-case name; a repeated one is one list (RFC 9110, 5.3)."""
    joined: dict[bytes, str] = {}
    for name, value in headers:
        text = value.decode("latin-1")
        known = joined.get(name.lower())
        joined[name.lower()] = text if known is None else f"{known}, {text}"
    return joined


async def _complete_lifespan(receive: Receive, send: Send) -> None:
    """Acknowledge start and stop in the lifespan protocol; the application needs neither."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
