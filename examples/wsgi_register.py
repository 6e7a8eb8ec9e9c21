"""Serve `/metrics` from a WSGI application, whatever number of processes it runs in.

    export PROMETHEUS_MULTIPROC_DIR=$(mktemp -d)
    gunicorn --workers 4 --chdir examples wsgi_register
    curl http://localhost:8000/metrics

Without the variable the page has the values of the process that answers, and the log has a warning.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from prometheus_client import Counter

import mpmetrics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

GREETINGS = Counter("greetings", "Greetings sent")

registration = mpmetrics.register()
if registration.mode == "in_process":
    logging.getLogger(__name__).warning(registration.reason)
metrics = mpmetrics.make_wsgi_app(registration)


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Greet, or serve the metrics."""
    if environ["PATH_INFO"] == "/metrics":
        return metrics(environ, start_response)
    GREETINGS.inc()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello\n"]
