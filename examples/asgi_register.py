"""Serve `/metrics` from an ASGI application, whatever number of processes it runs in.

    export PROMETHEUS_MULTIPROC_DIR=$(mktemp -d)
    uvicorn --workers 2 --app-dir examples asgi_register:application
    curl http://localhost:8000/metrics

With a framework, mount `metrics` at "/metrics" instead of comparing the path.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from prometheus_client import Counter

import mpmetrics

if TYPE_CHECKING:
    from collections.abc import Callable

GREETINGS = Counter("greetings", "Greetings sent")

registration = mpmetrics.register()
if registration.mode == "in_process":
    logging.getLogger(__name__).warning(registration.reason)
metrics = mpmetrics.make_asgi_app(registration)


async def application(
    scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]
) -> None:
    """Greet, or serve the metrics."""
    # `metrics` also acknowledges the start and stop of the server (lifespan protocol).
    if scope["type"] == "lifespan" or scope["path"] == "/metrics":
        await metrics(scope, receive, send)
        return
    GREETINGS.inc()
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello\n"})
