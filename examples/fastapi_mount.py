"""Mount `/metrics` in FastAPI, whatever number of processes it runs in.

export PROMETHEUS_MULTIPROC_DIR=$(mktemp -d)
uvicorn --workers 2 --app-dir examples fastapi_mount:app
curl http://localhost:8000/metrics/
"""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from prometheus_client import Counter

import mpmetrics

GREETINGS = Counter("greetings", "Greetings sent")

app = FastAPI()
app.mount("/metrics", mpmetrics.make_asgi_app(mpmetrics.register()))


@app.get("/", response_class=PlainTextResponse)
def greet() -> str:
    """Greet."""
    GREETINGS.inc()
    return "hello\n"
