"""An application that counts, and knows nothing of processes, files or mpmetrics.

`gunicorn.sh` and `uvicorn.sh` beside this file run it, each in its own way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import Counter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

GREETINGS = Counter("greetings", "Greetings sent")


def wsgi(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Greet, by way of gunicorn."""
    GREETINGS.inc()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello\n"]


async def asgi(
    scope: dict[str, Any],
    _receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Greet, by way of uvicorn."""
    if scope["type"] != "http":
        raise NotImplementedError  # by which uvicorn knows that there is nothing to start or end
    GREETINGS.inc()
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello\n"})
