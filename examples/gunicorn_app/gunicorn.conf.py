"""Settings that gunicorn reads from its current directory."""

from typing import Any

from prometheus_client.multiprocess import mark_process_dead


def child_exit(_server: object, worker: Any) -> None:
    """Remove a worker that has ended from the live gauges."""
    mark_process_dead(worker.pid)
