"""A shop behind gunicorn that changes one line of its imports to use mpmetrics.

Its metrics, its `/metrics` and its gunicorn.conf.py stay the same. To run it:

    export PROMETHEUS_MULTIPROC_DIR=$(mktemp -d)
    gunicorn --workers 4 --chdir examples/gunicorn_app app
    curl http://localhost:8000/metrics
"""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app

from mpmetrics import MultiProcessCollector  # was: from prometheus_client.multiprocess

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ENDPOINTS = {"/", "/cart", "/checkout"}

REQUESTS = Counter("shop_requests", "Requests answered", ["endpoint", "status"])
DURATION = Histogram("shop_request_duration_seconds", "Time to answer", ["endpoint"])
IN_PROGRESS = Gauge(
    "shop_requests_in_progress", "Requests being answered", multiprocess_mode="livesum"
)

registry = CollectorRegistry()
MultiProcessCollector(registry)
metrics: WSGIApplication = make_wsgi_app(registry)


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer a request, and count it."""
    path = environ["PATH_INFO"]
    if path == "/metrics":
        return metrics(environ, start_response)
    endpoint = path if path in ENDPOINTS else "other"
    with IN_PROGRESS.track_inprogress(), DURATION.labels(endpoint).time():
        status = serve(environ["REQUEST_METHOD"], endpoint, environ)
    REQUESTS.labels(endpoint, status.value).inc()
    start_response(f"{status.value} {status.phrase}", [("Content-Type", "text/plain")])
    return [f"{status.phrase}\n".encode()]


def serve(method: str, endpoint: str, environ: WSGIEnvironment) -> HTTPStatus:
    """Do what the request asks for; the time it takes is simulated."""
    match method, endpoint:
        case "GET", "/" | "/cart":
            time.sleep(0.002)
            return HTTPStatus.OK
        case "POST", "/checkout":
            order = environ["wsgi.input"].read()
            time.sleep(0.015)
            return HTTPStatus.CREATED if order else HTTPStatus.BAD_REQUEST
        case _:
            return HTTPStatus.NOT_FOUND
