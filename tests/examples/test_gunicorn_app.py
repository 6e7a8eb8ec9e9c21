"""An existing application: its counts are exact, with one changed line and without."""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

import mpmetrics
from examples.demo import (
    ORDER,
    WORKERS,
    Request,
    connect,
    send,
    send_concurrently,
    send_to_each_worker,
)
from tests.examples.programs import (
    EXAMPLES,
    GUNICORN,
    read_files,
    read_values,
    scrape,
    serving,
    workers_with,
)
from tests.servers import eventually

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.examples.programs import Server

APP = EXAMPLES / "gunicorn_app"
OURS = "from mpmetrics import MultiProcessCollector  # was: from prometheus_client.multiprocess\n"
IN_PROGRESS = "shop_requests_in_progress"
THEIRS = "from prometheus_client.multiprocess import MultiProcessCollector\n"


def serving_app(app: Path, directory: Path, home: Path) -> AbstractContextManager[Server]:
    """Run the application in the folder *app* with its own gunicorn.conf.py."""
    place = ["--chdir", str(app), "--config", str(app / "gunicorn.conf.py")]
    workers = ["--workers", str(WORKERS)]
    return serving(*GUNICORN, *place, *workers, "app", directory=directory, home=home)


@pytest.fixture(params=["ours", "theirs"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return the folder of the application: with our import, or with prometheus_client's."""
    if request.param == "ours":
        return APP
    before = shutil.copytree(APP, tmp_path / "before")
    text = (APP / "app.py").read_text()
    assert text.count(OURS) == 1
    (before / "app.py").write_text(text.replace(OURS, THEIRS))
    return before


def test_every_request_is_counted(app: Path, directory: Path, home: Path) -> None:
    """The page counts every request by endpoint and status, over all workers."""
    with serving_app(app, directory, home) as server:
        sent = send_to_each_worker(server.port) + send_concurrently(server.port)
        lost = send(server.port, Request("GET", "/nowhere"))
        page = scrape(server)

    expected = {frozenset(answer._asdict().items()): sent[answer] for answer in sent}
    expected[frozenset({("endpoint", "other"), ("status", lost.status)})] = 1
    assert read_values(page, "shop_requests_total") == expected

    by_endpoint: Counter[str] = Counter({"other": 1})
    for answer, times in sent.items():
        by_endpoint[answer.endpoint] += times
    assert read_values(page, "shop_request_duration_seconds_count") == {
        frozenset({("endpoint", endpoint)}): times for endpoint, times in by_endpoint.items()
    }
    assert read_values(page, IN_PROGRESS) == {frozenset(): 0}
    assert len(workers_with(directory, "shop_requests_total")) == WORKERS


def test_the_page_is_what_the_directory_says(directory: Path, home: Path) -> None:
    """A scrape of the server and a collection of its directory from outside are equal."""
    with serving_app(APP, directory, home) as server:
        send_to_each_worker(server.port)
        page = scrape(server)
        merged = mpmetrics.collect(directory).families

    assert list(text_string_to_metric_families(page)) == merged


def test_a_killed_worker_is_no_longer_in_progress(directory: Path, home: Path) -> None:
    """A killed worker's counts stay, and its request is no longer in progress."""
    with serving_app(APP, directory, home) as server:
        sent = send_to_each_worker(server.port)
        with connect(server.port) as connection:
            connection.putrequest(ORDER.method, ORDER.endpoint)
            connection.putheader("Content-Length", str(len(ORDER.body)))
            connection.endheaders()
            busy = eventually(lambda: busy_worker(directory), "a worker waits for the order")
            os.kill(int(busy.stem.rpartition("_")[2]), signal.SIGKILL)
            eventually(lambda: not busy.exists(), "gunicorn notices that the worker has ended")
        page = scrape(server)

    assert read_values(page, IN_PROGRESS) == {frozenset(): 0}
    assert sum(read_values(page, "shop_requests_total").values()) == sent.total()


def busy_worker(directory: Path) -> Path | None:
    """Return the file of a worker that is answering a request."""
    files = directory.glob("gauge_livesum_*.db")
    return next((file for file in files if read_files([file], IN_PROGRESS)[frozenset()]), None)
