"""Tasks for celery that count, and know nothing of processes, files or mpmetrics.

The broker is a folder, `celery-queue` in the current directory, so that there is nothing to
install. `celery.sh` beside this file runs the workers; this has them do something:

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
    """Greet somebody."""
    print(f"hello {name}", flush=True)
    GREETINGS.inc()
