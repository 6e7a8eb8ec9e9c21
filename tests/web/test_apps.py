"""The WSGI and ASGI applications behind real servers, asked as Prometheus and others ask."""

from __future__ import annotations

import asyncio
import gzip
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

import pytest
import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families

import mpmetrics
from mpmetrics.errors import SourceError
from mpmetrics.web import PageServer
from tests.servers import fetch, listening, serving_wsgi
from tests.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> mpmetrics.Page:
    """Return a page of a directory that a worker wrote; it is the same at every scrape."""
    path = tmp_path_factory.mktemp("written")
    with Worker(path) as worker:
        worker.do("Counter('vllm:requests', 'Requests.', ['model']).labels('ä').inc(2)")
        worker.do("Histogram('latency', '', buckets=(1, 2)).observe(1)")
        worker.do("Gauge('busy', '', multiprocess_mode='sum').set(1)")
    return mpmetrics.Page(path, exclude="mpmetrics_")


@contextmanager
def serving_asgi(application: Any) -> Iterator[str]:
    """Serve an ASGI application by uvicorn in a thread; yields the URL."""
    with listening() as listener:
        config = uvicorn.Config(application, log_level="error", lifespan="on")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/metrics"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module", params=["wsgi", "asgi"])
def url(request: pytest.FixtureRequest, page: mpmetrics.Page) -> Iterator[str]:
    """Return the URL of the page behind a server of each kind."""
    if request.param == "wsgi":
        serving = serving_wsgi(validator(mpmetrics.make_wsgi_app(page)))
    else:
        serving = serving_asgi(mpmetrics.make_asgi_app(page))
    with serving as url:
        yield url


def listed(*accepted: str) -> str:
    """Return the value of a header that lists what is *accepted*."""
    return ",".join(accepted)


ACCEPT = {
    "prometheus 2": (
        listed(
            "application/openmetrics-text;version=1.0.0",
            "application/openmetrics-text;version=0.0.1;q=0.75",
            "text/plain;version=0.0.4;q=0.5",
            "*/*;q=0.1",
        ),
        OPENMETRICS,
    ),
    "prometheus 2 with protobuf": (
        listed(
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
            "application/openmetrics-text;version=1.0.0;q=0.8",
            "application/openmetrics-text;version=0.0.1;q=0.75",
            "text/plain;version=0.0.4;q=0.5",
            "*/*;q=0.1",
        ),
        OPENMETRICS,
    ),
    "prometheus 3": (
        listed(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5",
            "application/openmetrics-text;version=0.0.1;q=0.4",
            "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3",
            "text/plain;version=0.0.4;q=0.2",
            "*/*;q=0.1",
        ),
        f"{OPENMETRICS}; escaping=allow-utf-8",
    ),
    "prometheus 3 with underscores": (
        "application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.5,*/*;q=0.1",
        OPENMETRICS,
    ),
    "text only": ("text/plain;version=0.0.4", TEXT),
    "new text": (
        "text/plain;version=1.0.0;escaping=allow-utf-8",
        "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
    ),
    "a browser": ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", TEXT),
    "curl": ("*/*", TEXT),
    "nothing that we have": ("image/png", TEXT),
    "nothing": ("", TEXT),
    "garbage": (";;,,q=;version", TEXT),
}


@pytest.mark.parametrize("client", ACCEPT)
def test_the_client_chooses_the_format(url: str, page: mpmetrics.Page, client: str) -> None:
    """Each client gets the format that it prefers, named in the header and whole in the body."""
    accept, expected = ACCEPT[client]
    response = fetch(url, headers={"Accept": accept})
    assert (response.status, response.headers["content-type"]) == (200, expected)
    openmetrics = expected.startswith(OPENMETRICS)
    assert response.body == page.render(openmetrics=openmetrics)
    assert int(response.headers["content-length"]) == len(response.body)
    assert {"Accept", "Accept-Encoding"} == set(response.headers["vary"].split(", "))
    parse = parse_openmetrics if openmetrics else text_string_to_metric_families
    names = {family.name for family in parse(response.body.decode())}
    assert names == {"vllm:requests", "latency", "busy"}


def test_without_a_header_the_oldest_format_is_sent(url: str, page: mpmetrics.Page) -> None:
    """A client without an `Accept` header gets the oldest text format."""
    response = fetch(url)
    assert (response.headers["content-type"], response.body) == (TEXT, page.render())


@pytest.mark.parametrize("path", ["", "/", "/deep/er", "/%C3%A4%20", "?x=y"])
def test_any_path_is_answered(url: str, page: mpmetrics.Page, path: str) -> None:
    """The application answers every path that the server passes to it."""
    response = fetch(url.removesuffix("/metrics") + path)
    assert (response.status, response.body) == (200, page.render())


def test_head_has_all_but_the_body(url: str) -> None:
    """HEAD gets the headers that GET gets, and no body."""
    get, head = fetch(url), fetch(url, "HEAD")
    assert (head.status, head.body) == (200, b"")
    kept = ("content-type", "content-length", "vary")
    assert [head.headers[name] for name in kept] == [get.headers[name] for name in kept]


def test_options_has_the_allowed_methods(url: str) -> None:
    """OPTIONS gets the methods that are allowed, and no body."""
    response = fetch(url, "OPTIONS")
    assert (response.status, response.body) == (204, b"")
    assert response.headers["allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_other_methods_are_not_allowed(url: str, method: str) -> None:
    """Other methods get 405 and the methods that are allowed."""
    response = fetch(url, method)
    assert (response.status, response.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert b"not allowed" in response.body


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("*", True),
        ("GZIP", True),
        ("gzip;q=0", False),
        ("br", False),
        ("", False),
    ],
)
def test_pages_are_compressed_for_clients_that_accept_gzip(
    url: str, page: mpmetrics.Page, accepted: str, *, packed: bool
) -> None:
    """A page is compressed for clients that accept gzip; the length is that of the body sent."""
    response = fetch(url, headers={"Accept-Encoding": accepted})
    assert response.headers.get("content-encoding") == ("gzip" if packed else None)
    assert int(response.headers["content-length"]) == len(response.body)
    body = gzip.decompress(response.body) if packed else response.body
    assert body == page.render()


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("name[]=busy", ["busy"]),
        ("name%5B%5D=busy", ["busy"]),
        ("name[]=busy&name[]=vllm:requests_total", ["busy", "vllm:requests_total"]),
        ("name[]=vllm%3Arequests", ["vllm:requests_total"]),
        ("name[]=latency_sum", ["latency_sum"]),
        ("name[]=latency", ["latency_bucket"] * 3 + ["latency_count", "latency_sum"]),
        ("name[]=nothing", []),
        ("name[]=%FF", []),
        ("other=busy&name[]=busy", ["busy"]),
    ],
)
@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text"])
def test_the_page_can_be_restricted_by_name(
    url: str, query: str, expected: list[str], accept: str
) -> None:
    """`?name[]=` keeps the named families, or the named samples of one."""
    response = fetch(f"{url}?{query}", headers={"Accept": accept})
    lines = [line for line in response.body.decode().splitlines() if not line.startswith("#")]
    assert response.status == 200
    assert sorted(line.partition(" ")[0].partition("{")[0] for line in lines) == expected
    assert response.body.endswith(b"# EOF\n") == accept.startswith("application/")


def test_a_page_without_a_working_source_is_still_a_page(tmp_path: Path) -> None:
    """A page whose sources fail is served with status 200."""
    page = mpmetrics.Page(tmp_path / "missing")
    with serving_wsgi(validator(mpmetrics.make_wsgi_app(page))) as url:
        response = fetch(url)
    assert response.status == 200
    assert f'mpmetrics_source_up{{source="{tmp_path / "missing"}"}} 0.0' in response.body.decode()


# -- what stands for a page ------------------------------------------------------------------------


def given_instead(kind: str, directory: Path) -> Any:
    """Return an object of a *kind* that stands for a page with `jobs_total 3.0`."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(directory))
    kinds: dict[str, Callable[[], Any]] = {
        "a registry": lambda: registry,
        "a collector": lambda: mpmetrics.MultiProcessCollector(None, directory),
        "a registration": lambda: mpmetrics.register(CollectorRegistry(), directory),
        "a path": lambda: directory,
        "a text": lambda: str(directory),
        "a list": lambda: [str(directory), lambda: "more 1\n"],
        "a list of registrations": lambda: [mpmetrics.register(CollectorRegistry(), directory)],
        "a callback": lambda: mpmetrics.collect(directory).render,
        "a page": lambda: mpmetrics.Page(directory),
    }
    return kinds[kind]()


@pytest.mark.parametrize(
    "kind",
    [
        "a registry",
        "a collector",
        "a registration",
        "a path",
        "a text",
        "a list",
        "a list of registrations",
        "a callback",
        "a page",
    ],
)
def test_what_stands_for_a_page_is_served(directory: Path, kind: str) -> None:
    """A registry, a registration, a directory or a list is served as the page that it is."""
    with serving_wsgi(mpmetrics.make_wsgi_app(given_instead(kind, directory))) as url:
        assert "jobs_total 3.0" in fetch(url).body.decode().splitlines()
    with serving_asgi(mpmetrics.make_asgi_app(given_instead(kind, directory))) as url:
        assert "jobs_total 3.0" in fetch(url).body.decode().splitlines()
    server = PageServer(given_instead(kind, directory), "127.0.0.1:0")
    server.start()
    try:
        assert "jobs_total 3.0" in fetch(f"{server.address}/metrics").body.decode().splitlines()
    finally:
        server.stop()


@pytest.mark.parametrize("make", [mpmetrics.make_wsgi_app, mpmetrics.make_asgi_app, PageServer])
@pytest.mark.parametrize(
    "given",
    [
        None,
        7,
        b"/run/metrics",
        "",
        {},
        [mpmetrics.Page([])],
        mpmetrics.Page,
        CollectorRegistry,
        mpmetrics.Problem("/run/metrics", "damaged", "bytes"),
        "ftp://127.0.0.1/metrics",
        [["/run/metrics"]],
        mpmetrics.make_wsgi_app(lambda: "a 1\n"),
        asyncio.sleep,
        lambda _: "a 1\n",
    ],
    ids=range(14),
)
def test_what_stands_for_no_page_is_refused_at_once(make: Any, given: Any) -> None:
    """What is no page, and no source of one, is refused before anything is scraped."""
    with pytest.raises(SourceError):
        make(given)


# -- the ASGI protocol ---------------------------------------------------------------------------


class Client:
    """A client at the other end of an ASGI application."""

    def __init__(self, *messages: str) -> None:
        """Send messages of these types, one after the other."""
        self.messages = list(messages)
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        """Return the next message."""
        return {"type": self.messages.pop(0)}

    async def send(self, message: dict[str, Any]) -> None:
        """Keep what the application sends."""
        self.sent.append(message)


def test_the_lifespan_is_acknowledged(page: mpmetrics.Page) -> None:
    """Start and shut-down of the lifespan protocol are acknowledged."""
    client = Client("lifespan.startup", "lifespan.shutdown")
    application = mpmetrics.make_asgi_app(page)
    asyncio.run(application({"type": "lifespan"}, client.receive, client.send))
    assert client.sent == [
        {"type": "lifespan.startup.complete"},
        {"type": "lifespan.shutdown.complete"},
    ]


def test_a_websocket_is_refused(page: mpmetrics.Page) -> None:
    """A WebSocket is closed before it is accepted."""
    client = Client("websocket.connect")
    application = mpmetrics.make_asgi_app(page)
    asyncio.run(application({"type": "websocket"}, client.receive, client.send))
    assert client.sent == [{"type": "websocket.close"}]


def test_a_header_that_is_sent_twice_is_one_list(page: mpmetrics.Page) -> None:
    """Headers of one name, which ASGI passes on separately, are one list."""
    client = Client()
    scope = {
        "type": "http",
        "method": "GET",
        "headers": [(b"Accept", b"image/png"), (b"accept", b"application/openmetrics-text")],
    }
    asyncio.run(mpmetrics.make_asgi_app(page)(scope, client.receive, client.send))
    start, body = client.sent
    assert dict(start["headers"])[b"content-type"].decode() == OPENMETRICS
    assert body["body"] == page.render(openmetrics=True)


def test_the_event_loop_goes_on_while_a_page_is_made() -> None:
    """A page is made in a thread: its source can wait for something that the event loop does."""
    loop_went_on = threading.Event()

    def text() -> str:
        assert loop_went_on.wait(30)
        return "a 1\n"

    async def request() -> None:
        client = Client()
        scope = {"type": "http", "method": "GET", "headers": []}
        task = asyncio.create_task(application(scope, client.receive, client.send))
        await asyncio.sleep(0)
        loop_went_on.set()
        await task
        assert b"\na 1.0\n" in client.sent[1]["body"]

    application = mpmetrics.make_asgi_app(mpmetrics.Page(text))
    asyncio.run(request())
