"""A page on a port of its own: uvicorn around the site of a page, in a thread."""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import closing
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from mpmetrics._extra import installed_version, require_module
from mpmetrics._log_limit import describe_exception, get_log
from mpmetrics.errors import UnsupportedReleaseError
from mpmetrics.pages import as_page
from mpmetrics.web.apps import PAGE_PATHS, make_asgi_site
from mpmetrics.web.auth import Gate, require_basic_auth
from mpmetrics.web.connections import Connections
from mpmetrics.web.limits import DEFAULT_LIMITS, BoundedSocket, HandshakeTimeoutLoop
from mpmetrics.web.networks import make_known_networks, network_of
from mpmetrics.web.sockets import DEFAULT_LISTEN, Listener
from mpmetrics.web.users import check_bcrypt
from mpmetrics.web.web_config import WebConfig

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from typing import Any

    from mpmetrics.pages import PageLike
    from mpmetrics.web.apps import AsgiApp, Receive, Scope, Send
    from mpmetrics.web.limits import Limits
    from mpmetrics.web.networks import KnownNetworks
    from mpmetrics.web.users import CheckPassword
    from mpmetrics.web.uvicorn_server import BoundedServer

_log = get_log()

_SOURCE_SECONDS: Final = 1
"""Time that late sources have when a server stops; open requests have a second more."""

_JOIN_SECONDS: Final = 4
"""Time that the thread then has to end."""


class PageServer:
    """A server for *page* at the address *listen*, with the paths of an exporter.

    The constructor opens the socket, so that a port in use is known before anything else is done;
    child processes do not inherit it. Raises `ListenError`, or `MissingExtraError` when uvicorn is
    not installed.
    """

    def __init__(
        self,
        page: PageLike,
        listen: str = DEFAULT_LISTEN,
        *,
        web_config: WebConfig | None = None,
        limits: Limits = DEFAULT_LIMITS,
        check_password: CheckPassword = check_bcrypt,
    ) -> None:
        """Open the socket; nothing is answered before `start`.

        *page* is a `Page`, or what `mpmetrics.make_wsgi_app` takes for one. Raises `SourceError`.
        """
        self._page = as_page(page)
        config = web_config or WebConfig()
        known = make_known_networks()
        self._gate = Gate(config.users, known, check_password)
        application = _log_failures(
            require_basic_auth(
                _note_networks(make_asgi_site(self._page), known), self._gate, config.headers
            )
        )
        self._limits = limits
        self._connections = Connections(limits.connections, known)
        self._started = threading.Event()
        self._server = _make_server(
            application, limits, config, self._connections, self._started.set
        )
        self._listener = Listener(listen)
        self._scheme = "https" if config.tls else "http"
        self._thread = threading.Thread(target=self._serve, name="mpmetrics-http", daemon=True)
        if not (self._listener.address.is_local or config.requires_credentials):
            _log.warning("%s: other machines can read this page without a password", self.address)

    @property
    def address(self) -> str:
        """Where to connect to: a URL, or ``unix:`` and a path."""
        return self._listener.url(self._scheme)

    @property
    def page_address(self) -> str:
        """Where the page is: a URL, or ``unix:`` and the path of the socket."""
        is_unix = bool(self._listener.address.path)
        return self.address if is_unix else f"{self.address}/metrics"

    def start(self) -> None:
        """Serve in a thread; return when requests are answered."""
        self._thread.start()
        self._started.wait()

    def stop(self) -> None:
        """Finish open requests, within seconds, and close the socket."""
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(_SOURCE_SECONDS)
            self._page.give_up_waiting()
            self._thread.join(_JOIN_SECONDS)
        self._listener.close()

    def run(self) -> bool:
        """Serve until this process gets SIGTERM or SIGINT; call it from the main thread.

        Returns False if the server has ended by itself, which it does not do in good health.
        """
        ended = threading.Event()
        for number in signal.SIGTERM, signal.SIGINT:
            signal.signal(number, lambda *_: ended.set())
        self.start()
        try:
            # With a limit: on Windows no signal interrupts a wait without one.
            while not ended.wait(1.0) and self._thread.is_alive():
                pass
        finally:
            self.stop()
        return ended.is_set()

    def _serve(self) -> None:
        """Run uvicorn in an event loop of its own."""
        try:
            with closing(HandshakeTimeoutLoop(self._limits.request_seconds)) as loop:
                self._serve_in(loop)
        finally:
            self._gate.close()
            # Also if no descriptor is left for the loop: `start` waits for this.
            self._started.set()

    def _serve_in(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.set_exception_handler(_log_loop_error)
        listener = BoundedSocket.bound(self._listener.socket, self._connections)
        loop.run_until_complete(self._server.serve(sockets=[listener]))
        self._server.abort_connections()
        loop.run_until_complete(_cancel_tasks())


def _log_loop_error(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error that no task of the loop handles: asyncio's own log has tracebacks."""
    error = context.get("exception")
    reason = describe_exception(error) if isinstance(error, BaseException) else ""
    _log.error("%s: %s", context.get("message", "error"), reason)


def _log_failures(application: AsgiApp) -> AsgiApp:
    """Return *application* with a line in the log for each request that it fails to answer."""

    async def logging_application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await application(scope, receive, send)
        except Exception as error:
            _log.error("%s: %s: %s", scope.get("path", ""), type(error).__name__, error)
            raise

    return logging_application


def _note_networks(application: AsgiApp, known: KnownNetworks) -> AsgiApp:
    """Return *application*; the networks of clients that it serves a page become *known*."""

    async def noting_application(scope: Scope, receive: Receive, send: Send) -> None:
        async def note(message: MutableMapping[str, Any]) -> None:
            if message.get("status") == HTTPStatus.OK and scope.get("path") in PAGE_PATHS:
                known.add(network_of(scope.get("client")))
            await send(message)

        await application(scope, receive, note)

    return noting_application


async def _cancel_tasks() -> None:
    """Cancel all tasks and end the threads of the loop, as `asyncio.run` does for its own loop."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()


def _make_server(
    application: AsgiApp,
    limits: Limits,
    config: WebConfig,
    connections: Connections,
    on_start: Callable[[], None],
) -> BoundedServer:
    """Return uvicorn's server for *application*.

    Raises `MissingExtraError`, or `UnsupportedReleaseError` when uvicorn lacks a part that is used.
    """
    require_module("uvicorn")
    try:
        from mpmetrics.web.uvicorn_server import Admission, BoundedServer
    except ImportError as error:
        raise UnsupportedReleaseError(
            package="uvicorn", release=installed_version("uvicorn"), why=str(error)
        ) from error
    # A client with a password never needs to close its own side of the connection early.
    admission = Admission(connections, config.allowed_sans, awaits_half_closed=not config.users)
    return BoundedServer(
        application, limits, tls=config.tls, admission=admission, on_start=on_start
    )
