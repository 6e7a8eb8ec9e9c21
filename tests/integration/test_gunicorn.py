"""A real gunicorn server of several workers, counted exactly."""

from __future__ import annotations

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.servers import LOOPBACK, fetch, listening, running
from tests.workers import environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORKERS = 4

APPLICATION = """
import os

import mpmetrics
from prometheus_client import REGISTRY, Counter, Gauge, Histogram

requests = Counter("requests", "Requests by path.", ["path"])
size = Histogram("size_bytes", "Size of the query.", buckets=(1, 2, 4))
busy = Gauge("busy", "Requests in progress.", multiprocess_mode="livesum")
starts = Counter("starts", "Workers that were started.")

metrics = mpmetrics.make_wsgi_app(mpmetrics.register().page())


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/metrics":
        return metrics(environ, start_response)
    with busy.track_inprogress():
        requests.labels(path).inc()
        size.observe(len(environ["QUERY_STRING"]))
        if path == "/hold":
            # Report that this worker is taken, and keep it so until the test releases it.
            with open("taken", "wb", buffering=0) as taken:
                taken.write(b"x")
            with open("release", "rb", buffering=0) as release:
                release.read(1)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(os.getpid()).encode()]
"""

CONFIGURATION = """
import mpmetrics


def post_worker_init(worker):
    from application import starts
    starts.inc()


def child_exit(server, worker):
    mpmetrics.mark_process_dead(worker.pid)
"""


class Server:
    """A running server and its counts."""

    def __init__(self, url: str, place: Path) -> None:
        """Talk to the server at *url*, which runs in the directory *place*."""
        self._url = url
        self.place = place

    def get(self, path: str) -> bytes:
        """Return the body of an answer, which must be a success."""
        response = fetch(self._url + path)
        assert response.status == 200, response
        return response.body

    def values(self) -> dict[str, float]:
        """Return the values of the page by series; each series must be there once."""
        text = self.get("/metrics").decode()
        list(text_string_to_metric_families(text))
        lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
        values = {series: float(value) for series, _, value in lines}
        assert len(values) == len(lines)
        return values

    def ask_all_workers(self) -> set[int]:
        """Send one request to each worker, all at the same time; return their pids."""
        taken, release = self.place / "taken", self.place / "release"
        # Read and write: so that neither side has to wait for the other to open its end.
        with (
            ThreadPoolExecutor(WORKERS) as threads,
            taken.open("r+b", buffering=0) as taken_pipe,
            release.open("r+b", buffering=0) as release_pipe,
        ):
            bodies = [threads.submit(self.get, "/hold?abc") for _ in range(WORKERS)]
            for _ in range(WORKERS):
                assert taken_pipe.read(1) == b"x"
            release_pipe.write(b"x" * WORKERS)
            pids = {int(body.result()) for body in bodies}
        assert len(pids) == WORKERS
        return pids


def counted(values: dict[str, float]) -> dict[str, float]:
    """Return the counts of the application, without the metrics of single processes."""
    ours = ("requests_", "size_bytes_", "busy", "starts_")
    return {series: value for series, value in values.items() if series.startswith(ours)}


@pytest.fixture(params=["each worker loads", "preloaded"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """Return a server whose workers load the application themselves, or inherit it."""
    (tmp_path / "application.py").write_text(APPLICATION)
    (tmp_path / "gunicorn.conf.py").write_text(CONFIGURATION)
    os.mkfifo(tmp_path / "taken")
    os.mkfifo(tmp_path / "release")
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    preload = ["--preload"] if request.param == "preloaded" else []
    with listening() as listener:
        options = ["--workers", str(WORKERS), "--bind", f"fd://{listener.fileno()}", *preload]
        command = [sys.executable, "-m", "gunicorn", *options, "application"]
        url = f"http://{LOOPBACK}:{listener.getsockname()[1]}"
        with running(
            [*command, "--log-level", "warning"],
            cwd=tmp_path,
            env=environment(metrics),
            pass_fds=[listener.fileno()],
        ):
            yield Server(url, tmp_path)


def test_every_request_is_counted(server: Server) -> None:
    """Four gunicorn workers count all of hundreds of requests, of which each gets some."""
    requests = 200
    server.ask_all_workers()
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(server.get, ["/", "/?a"] * (requests // 2)))
    assert len(answers) == requests
    values = server.values()
    assert values['requests_total{path="/"}'] == requests
    assert values['requests_total{path="/hold"}'] == WORKERS
    assert values["size_bytes_count"] == requests + WORKERS
    assert values["size_bytes_sum"] == requests // 2 + 3 * WORKERS
    assert values['size_bytes_bucket{le="1.0"}'] == requests
    assert values["busy"] == 0
    assert values["starts_total"] == WORKERS
    # Any worker gives the same page: it is not the share of the one that happens to answer.
    for _ in range(2 * WORKERS):
        assert counted(server.values()) == counted(values)


def test_counts_outlive_killed_workers(server: Server) -> None:
    """The counts of a killed worker stay on the page; its live gauges go."""
    victim = min(server.ask_all_workers())
    os.kill(victim, signal.SIGKILL)
    while server.values()["starts_total"] < WORKERS + 1:
        pass
    assert victim not in server.ask_all_workers()
    values = server.values()
    assert values['requests_total{path="/hold"}'] == 2 * WORKERS
    assert values["starts_total"] == WORKERS + 1
    assert values["busy"] == 0
    left = {path.name for path in (server.place / "metrics").glob(f"*_{victim}.db")}
    assert f"counter_{victim}.db" in left
    assert f"gauge_livesum_{victim}.db" not in left
