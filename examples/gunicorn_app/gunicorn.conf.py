"""Settings that gunicorn reads from the directory it runs in."""

from typing import Any

from prometheus_client.multiprocess import mark_process_dead


def child_exit(_server: object, worker: Any) -> None:
    """Take a worker that has ended out of the live gauges."""
    mark_process_dead(worker.pid)
