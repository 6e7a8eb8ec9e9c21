"""A page on a port of its own: its paths, its end, and overlapping scrapes; on real sockets."""

from __future__ import annotations

import gzip
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mpmetrics import Page
from mpmetrics.web import PageServer
from tests.servers import Response, eventually, fetch
from tests.web.page_servers import serving
from tests.workers import PATIENCE

# -- paths -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "/metrics?x=1"])
def test_the_page_is_at_metrics(directory: Path, path: str) -> None:
    """The page is at /metrics, with or without a slash and a query."""
    with serving(directory) as server:
        answer = fetch(server.address + path)
    assert (answer.status, answer.headers["content-type"]) == (
        200,
        "text/plain; version=0.0.4; charset=utf-8",
    )
    assert b"jobs_total 3.0\n" in answer.body
    assert "server" not in answer.headers


@pytest.mark.parametrize("path", ["/metricsx", "/metrics/x", "/favicon.ico", "/-/", "//metrics"])
def test_there_is_nothing_else(directory: Path, path: str) -> None:
    """A path that only begins or ends like a known one is not found."""
    with serving(directory) as server:
        assert fetch(server.address + path).status == 404


def test_health_readiness_and_an_index(directory: Path) -> None:
    """A server is healthy while it answers, and ready while its directory can be read."""
    with serving(directory) as server:
        for path, text in {
            "/-/healthy": b"mpmetrics is healthy\n",
            "/-/ready": b"mpmetrics is ready\n",
        }.items():
            assert fetch(server.address + path)[::2] == (200, text)
        index = fetch(server.address + "/")
        assert index.headers["content-type"] == "text/html; charset=utf-8"
        for path in ("/metrics", "/-/healthy", "/-/ready"):
            assert f'href="{path}"'.encode() in index.body
        directory.rename(directory.with_name("gone"))
        answer = fetch(server.address + "/-/ready")
        assert answer[::2] == (503, f"{directory}: no such directory\n".encode())
        assert fetch(server.address + "/-/healthy").status == 200
        page = fetch(server.address + "/metrics")
        assert page.status == 200
        assert f'mpmetrics_source_up{{source="{directory}"}} 0.0'.encode() in page.body


@pytest.mark.parametrize("path", ["/metrics", "/", "/-/ready", "/-/healthy"])
def test_methods(directory: Path, path: str) -> None:
    """HEAD is GET without a body; other methods are refused with those that are allowed."""
    with serving(directory) as server:
        url = server.address + path
        head, got = fetch(url, "HEAD"), fetch(url)
        assert (head.status, head.body) == (200, b"")
        assert head.headers.keys() == got.headers.keys()
        refused = fetch(url, "POST")
        assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
        assert fetch(url, "OPTIONS").status == 204
        assert fetch(server.address + "/nowhere", "POST").status == 404


def test_formats_compression_and_names(directory: Path) -> None:
    """The page is negotiated, compressed and restricted as in the embedded applications."""
    with serving(directory) as server:
        url = server.address + "/metrics"
        packed = fetch(url, headers={"Accept-Encoding": "gzip"})
        assert packed.headers["content-encoding"] == "gzip"
        assert b"jobs_total 3.0\n" in gzip.decompress(packed.body)
        openmetrics = fetch(url, headers={"Accept": "application/openmetrics-text"})
        assert openmetrics.body.endswith(b"# EOF\n")
        named = fetch(f"{url}?name[]=other_total")
        assert named.body.decode().splitlines()[-1] == "other_total 1.0"
        assert b"jobs" not in named.body


# -- nothing is left -------------------------------------------------------------------------------


def test_many_requests_leave_nothing_behind(directory: Path) -> None:
    """Many requests leave neither threads nor descriptors behind."""

    def count_resources() -> tuple[int, int]:
        descriptors = Path("/proc/self/fd")
        count = sum(1 for _ in descriptors.iterdir()) if descriptors.exists() else 0
        return threading.active_count(), count

    before = count_resources()
    with serving(directory) as server:
        url = server.address + "/metrics"
        for _ in range(20):
            fetch(url)
        during = count_resources()
        for _ in range(300):
            assert fetch(url).status == 200
        threads, descriptors = count_resources()
        # The pool of the event loop has a thread for each processor, and a few.
        assert threads <= during[0] + (os.cpu_count() or 1) + 4
        assert descriptors <= during[1] + 2
    assert count_resources()[1] == before[1]


@pytest.mark.parametrize("within", ["1", "1.0"])
def test_the_scrape_timeout_of_the_client_is_a_limit(within: str) -> None:
    """A client with a short scrape timeout gets a page in time without the late source."""
    go_on = threading.Event()

    def slow() -> str:
        assert go_on.wait(PATIENCE)
        return "slow 1\n"

    server = PageServer(Page([slow, lambda: "quick 1\n"], timeout=PATIENCE), "127.0.0.1:0")
    server.start()
    try:
        url = server.address + "/metrics"
        header = "X-Prometheus-Scrape-Timeout-Seconds"
        begun = time.monotonic()
        body = fetch(url, headers={header: within}).body
        # Much less than the sources have, with much to spare for a loaded machine.
        assert 0.5 <= time.monotonic() - begun < PATIENCE / 2
        assert b"quick 1.0\n" in body
        assert b'mpmetrics_source_up{source="slow"} 0.0\n' in body
        go_on.set()
        assert b"slow 1.0\n" in fetch(url, headers={header: "nonsense"}).body
    finally:
        go_on.set()
        server.stop()


def test_the_end_does_not_wait_for_a_late_source(caplog: pytest.LogCaptureFixture) -> None:
    """A server that stops answers an open scrape without its late source."""
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        assert go_on.wait(PATIENCE)
        return "slow 1\n"

    server = PageServer(Page([slow, lambda: "quick 1\n"], timeout=PATIENCE), "127.0.0.1:0")
    server.start()
    try:
        with ThreadPoolExecutor(1) as pool:
            scrape = pool.submit(fetch, server.address + "/metrics")
            assert begun.wait(PATIENCE)
            server.stop()
            answer = scrape.result(PATIENCE)
        assert not server._thread.is_alive()
        assert not go_on.is_set()
    finally:
        go_on.set()
        server.stop()
    assert answer.status == 200
    assert b"quick 1.0\n" in answer.body
    assert b'mpmetrics_source_up{source="slow"} 0.0\n' in answer.body
    assert {record.name for record in caplog.records} == {"mpmetrics"}


def test_overlapping_scrapes_share_one_collection() -> None:
    """Overlapping scrapes share one collection; a later scrape makes a new one."""
    calls = []
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        calls.append(1)
        begun.set()
        assert go_on.wait(PATIENCE)
        return f"calls {len(calls)}\n"

    server = PageServer(Page([slow]), "127.0.0.1:0")
    server.start()
    try:
        answers: list[Response] = []
        url = server.address + "/metrics"
        first = threading.Thread(target=lambda: answers.append(fetch(url)))
        first.start()
        assert begun.wait(PATIENCE)
        # These ask for other formats, so that not even the formatting is shared.
        others = [
            threading.Thread(
                target=lambda headers=headers: answers.append(fetch(url, headers=headers))
            )
            for headers in [{"Accept-Encoding": "gzip"}, {"Accept": "application/openmetrics-text"}]
            for _ in range(5)
        ]
        for each in others:
            each.start()
        # All of them wait for the same collection; only their number shows that from outside.
        eventually(
            lambda: len(server._server.server_state.tasks) == 1 + len(others),
            "all scrapes are waiting",
        )
        go_on.set()
        for each in [first, *others]:
            each.join()
        assert [answer.status for answer in answers] == [200] * 11
        assert calls == [1]
        assert b"calls 2.0\n" in fetch(url).body
    finally:
        go_on.set()
        server.stop()
