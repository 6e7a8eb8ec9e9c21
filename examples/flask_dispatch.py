"""Serve `/metrics` beside a Flask application, whatever number of processes it runs in.

export PROMETHEUS_MULTIPROC_DIR=$(mktemp -d)
gunicorn --workers 4 --chdir examples flask_dispatch
curl http://localhost:8000/metrics
"""

from __future__ import annotations

from flask import Flask
from prometheus_client import Counter
from werkzeug.middleware.dispatcher import DispatcherMiddleware

import mpmetrics

GREETINGS = Counter("greetings", "Greetings sent")

app = Flask(__name__)
metrics = mpmetrics.make_wsgi_app(mpmetrics.register())
application = DispatcherMiddleware(app, {"/metrics": metrics})


@app.get("/")
def greet() -> str:
    """Greet."""
    GREETINGS.inc()
    return "hello\n"
