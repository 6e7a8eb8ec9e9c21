"""An application that counts, without a line about processes, files or mpmetrics.

`gunicorn.sh` and `uvicorn.sh` beside this file run it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import Counter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

GREETINGS = Counter("greetings", "Greetings sent")


def wsgi(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Greet a client of gunicorn."""
    GREETINGS.inc()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello\n"]


async def asgi(
    scope: dict[str, Any],
    _receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Greet a client of uvicorn."""
    if scope["type"] != "http":
        raise NotImplementedError  # uvicorn then skips the lifespan protocol
    GREETINGS.inc()
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello\n"})
