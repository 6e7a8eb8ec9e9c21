"""Tasks for celery that count, without a line about processes, files or mpmetrics.

The broker is a folder, `celery-queue` in the current directory, which needs no installation.
`celery.sh` beside this file runs the workers; this command gives them tasks:

    python -c 'import tasks; [tasks.greet.delay(name) for name in ("Ada", "Grace")]'
"""

from __future__ import annotations

from pathlib import Path

from celery import Celery  # type: ignore[import-untyped]
from prometheus_client import Counter

QUEUE = Path("celery-queue")
QUEUE.mkdir(exist_ok=True)

GREETINGS = Counter("greetings", "Greetings sent")

app = Celery("tasks", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": str(QUEUE),
    "data_folder_out": str(QUEUE),
    "control_folder": str(QUEUE / "control"),
}


@app.task  # type: ignore[untyped-decorator]
def greet(name: str) -> None:
    """Print a greeting, and count it."""
    print(f"hello {name}", flush=True)
    GREETINGS.inc()
