"""A page on a port of its own: uvicorn around the site of a page, in a thread."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from mpmetrics.errors import MissingExtraError
from mpmetrics.web.apps import make_asgi_site
from mpmetrics.web.auth import require_basic_auth
from mpmetrics.web.sockets import DEFAULT_LISTEN, Listener
from mpmetrics.web.web_config import WebConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    import uvicorn

    from mpmetrics.pages import Page
    from mpmetrics.web.apps import AsgiApp, Receive, Send

_log = logging.getLogger("mpmetrics")

_GRACE: Final = 2
"""Seconds that open requests have at the end; after half of them late sources are given up."""


class Serving:
    """A *page* that is served at the address *listen*, from the paths of an exporter.

    The socket is open from the beginning, so that a port that is taken is known before anything
    else is done, and is not inherited by children. Raises `ListenError`, or `MissingExtraError`
    when uvicorn is not installed.
    """

    def __init__(
        self, page: Page, listen: str = DEFAULT_LISTEN, *, web_config: WebConfig | None = None
    ) -> None:
        """Open the socket; nothing is answered before `start`."""
        config = web_config or WebConfig()
        application = _reported(
            require_basic_auth(make_asgi_site(page), config.users, config.headers)
        )
        self._started = threading.Event()
        self._server = _make_server(application, config, self._started.set)
        self._page = page
        self._listener = Listener(listen)
        self._scheme = "https" if config.tls else "http"
        self._thread = threading.Thread(target=self._serve, name="mpmetrics-http", daemon=True)
        if not (self._listener.address.is_local or config.is_guarded):
            _log.warning(
                "%s: other machines can read this page, and nobody is asked for a password",
                self.address,
            )

    @property
    def address(self) -> str:
        """Where to connect to: a URL, or ``unix:`` and a path."""
        return self._listener.url(self._scheme)

    def start(self) -> None:
        """Serve in a thread; return when requests are answered."""
        self._thread.start()
        self._started.wait()

    def stop(self) -> None:
        """Finish what is being answered, within seconds, and close the socket."""
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(_GRACE / 2)
            self._page.give_up_waiting()
            self._thread.join(2 * _GRACE)
        self._listener.close()

    def run(self) -> None:
        """Serve until this process gets SIGTERM or SIGINT; call it from the main thread."""
        ended = threading.Event()
        for number in signal.SIGTERM, signal.SIGINT:
            signal.signal(number, lambda *_: ended.set())
        self.start()
        try:
            # Not without a limit: on Windows nothing could interrupt that.
            while not ended.wait(1.0) and self._thread.is_alive():
                pass
        finally:
            self.stop()

    def _serve(self) -> None:
        """Run the server, in its own event loop."""
        from mpmetrics.web import limits  # it imports uvicorn

        loop = limits.HandshakeTimeoutLoop()
        try:
            listener = limits.BoundedSocket.of(self._listener.socket)
            loop.run_until_complete(self._server.serve(sockets=[listener]))
            for connection in list(self._server.server_state.connections):
                connection.transport.abort()
            loop.run_until_complete(_finish())
        finally:
            loop.close()
            self._started.set()


def _reported(application: AsgiApp) -> AsgiApp:
    """Return *application* with a line in the log for a request that it fails to answer."""

    async def reported(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        try:
            await application(scope, receive, send)
        except Exception as error:
            _log.error("%s: %s: %s", scope.get("path", ""), type(error).__name__, error)
            raise

    return reported


async def _finish() -> None:
    """End what is still being done for nobody, as `asyncio.run` does, which makes its own loop."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()


def _make_server(
    application: AsgiApp, config: WebConfig, tell: Callable[[], None]
) -> uvicorn.Server:
    """Return a server for *application* that says nothing by itself, but *tell*s of its start."""
    try:
        import uvicorn
    except ImportError as error:
        raise MissingExtraError(package="uvicorn", extra="serve") from error
    from mpmetrics.web import limits  # it imports uvicorn

    protocol: Any = partial(limits.BoundedConnection, allowed_sans=config.allowed_sans)
    settings = uvicorn.Config(
        application,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",  # its errors are tracebacks, of clients cut off at the end, too
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=limits.IDLE_SECONDS,
        timeout_graceful_shutdown=_GRACE,
        h11_max_incomplete_event_size=limits.LARGEST_REQUEST,
    )
    settings.load()
    settings.ssl = config.tls
    return limits.NotifyingServer(settings, tell)
