"""Another exporter's page as a source, with all that can go wrong between two machines."""

from __future__ import annotations

import gzip
import time
from typing import TYPE_CHECKING

import pytest

import mpmetrics
from mpmetrics.errors import PageError, Problem, SourceError
from mpmetrics.pages.gathering import Gathering
from mpmetrics.pages.url_source import UrlSource
from tests.servers import LOOPBACK, answering, answering_with, free_port
from tests.workers import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers import Handler

TEXT = b"# HELP a Help.\n# TYPE a gauge\na 1.0\n"
LIMIT = 0.5
"""Seconds that a source gets in these tests."""


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no request go through a proxy of the machine."""
    monkeypatch.setenv("no_proxy", LOOPBACK)


def page_with(url: str) -> tuple[bytes, float]:
    """Return a page of one URL without its self-metrics, and whether the source was up."""
    page = mpmetrics.Page([UrlSource(url, LIMIT), lambda: "other 1\n"])
    families = {family.name: family for family in page.families()}
    assert "other" in families
    up = {
        sample.labels["source"]: sample.value for sample in families["mpmetrics_source_up"].samples
    }
    text = page.render()
    lines = [line for line in text.splitlines(keepends=True) if b"mpmetrics_" not in line]
    return b"".join(line for line in lines if b"other" not in line), up[url]


WORKING = (TEXT, 1.0)
FAILED = (b"", 0.0)


def test_a_page_is_fetched() -> None:
    """A page has the families of the page that its URL source fetches."""
    with answering_with(TEXT, Content_Type="text/plain; version=0.0.4") as url:
        assert page_with(url) == WORKING


def test_a_url_is_a_source_by_itself() -> None:
    """A string that begins with http:// stands for a URL source."""
    with answering_with(TEXT) as url:
        assert [family.name for family in mpmetrics.Page(url, "a").families()] == ["a"]


def test_openmetrics_is_understood() -> None:
    """A URL source accepts both formats, and asks for both."""

    def answer(handler: Handler) -> None:
        assert "application/openmetrics-text" in handler.headers["Accept"]
        assert "text/plain" in handler.headers["Accept"]
        handler.send(TEXT + b"# EOF\n")

    with answering(answer) as url:
        assert page_with(url) == WORKING


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip"])
def test_a_compressed_page_is_unpacked(coding: str) -> None:
    """A URL source asks for compression, and unpacks a compressed page."""

    def answer(handler: Handler) -> None:
        assert handler.headers["Accept-Encoding"] == "gzip"
        handler.send(gzip.compress(TEXT), Content_Encoding=coding)

    with answering(answer) as url:
        assert page_with(url) == WORKING


def test_redirections_are_followed() -> None:
    """A URL source follows a redirection, as from `/metrics` to `/metrics/`."""

    def answer(handler: Handler) -> None:
        if handler.path.endswith("/"):
            handler.send(TEXT)
        else:
            handler.send(b"", 307, Location=f"{handler.path}/")

    with answering(answer) as url:
        assert page_with(url) == WORKING


def test_a_url_without_a_server_is_down() -> None:
    """A URL on which no server listens costs its own families only."""
    assert page_with(f"http://{LOOPBACK}:{free_port()}/metrics") == FAILED


def test_a_source_that_was_down_comes_back() -> None:
    """A source that failed once is up again at the next scrape that succeeds."""
    healthy: list[bool] = []

    def answer(handler: Handler) -> None:
        handler.send(TEXT, 200 if healthy else 503)

    with answering(answer) as url:
        assert page_with(url) == FAILED
        healthy.append(True)
        assert page_with(url) == WORKING


ZIPPED = gzip.compress(TEXT)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda handler: handler.send(TEXT, 404), id="not found"),
        pytest.param(lambda handler: handler.send(TEXT, 500), id="server error"),
        pytest.param(lambda handler: handler.send(b"<html></html>"), id="a web page"),
        pytest.param(lambda handler: handler.send(b"\xff\xfe"), id="no text"),
        pytest.param(lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH\r\n"), id="no HTTP"),
        pytest.param(lambda _handler: None, id="no answer"),
        pytest.param(
            lambda handler: handler.send(TEXT, Content_Length=str(len(TEXT) + 1)), id="cut short"
        ),
        pytest.param(
            lambda handler: handler.send(TEXT, Content_Encoding="gzip"), id="not compressed"
        ),
        pytest.param(
            lambda handler: handler.send(ZIPPED[:-5], Content_Encoding="gzip"),
            id="compressed and cut short",
        ),
        pytest.param(
            lambda handler: handler.send(ZIPPED, Content_Encoding="br"), id="unknown compression"
        ),
        pytest.param(
            lambda handler: handler.send(b"", 302, Location="file:///etc/passwd"),
            id="redirected to a file",
        ),
        pytest.param(
            lambda handler: handler.send(b"", 302, Location=handler.path), id="in circles"
        ),
    ],
)
def test_an_answer_that_is_no_page(answer: Callable[[Handler], None]) -> None:
    """A source whose answer is not a whole page is down; the other sources are served."""
    with answering(answer) as url:
        assert page_with(url) == FAILED


def drip(handler: Handler, chunk: bytes) -> None:
    """Send *chunk* again and again, a little every now and then, until the test is over."""
    while not handler.server.over.wait(LIMIT / 10):
        handler.wfile.write(chunk)


def silent(handler: Handler) -> None:
    """Take the request and never answer."""
    handler.server.over.wait()


def dripping(handler: Handler) -> None:
    """Send a page without end, slowly."""
    handler.send(TEXT)
    drip(handler, b"# more to come\n")


def dripping_compressed(handler: Handler) -> None:
    """Send a compressed page, byte by byte."""
    handler.send(b"", Content_Encoding="gzip")
    for byte in gzip.compress(TEXT * 1000, 0):
        if handler.server.over.wait(LIMIT / 10):
            return
        handler.wfile.write(bytes([byte]))


def dripping_headers(handler: Handler) -> None:
    """Send a header without end, byte by byte."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-")
    drip(handler, b"x")


def endless(handler: Handler) -> None:
    """Send a page without end, in chunks and as fast as possible."""
    handler.protocol_version = "HTTP/1.1"
    handler.send(b"", Transfer_Encoding="chunked")
    while not handler.server.over.is_set():
        handler.wfile.write(b"1000\r\n" + b"# comment\n" * 409 + b"#####\n\r\n")


@pytest.mark.parametrize(
    "answer", [silent, dripping, dripping_compressed, dripping_headers, endless]
)
def test_a_slow_source_has_its_time_and_no_more(answer: Callable[[Handler], None]) -> None:
    """A source that takes longer than its timeout has failed, whatever takes the time."""
    with answering(answer) as url:
        start = time.monotonic()
        assert page_with(url) == FAILED
        # Twice, as `page_with` scrapes twice, with much to spare for a loaded machine.
        assert time.monotonic() - start < 2 * LIMIT + 10


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_a_page_that_is_too_large_is_refused(coding: str) -> None:
    """A page above the limit is refused, whether it is sent that large or unpacked to that."""
    page = TEXT + b"# filler\n" * 100
    body = gzip.compress(page) if coding == "gzip" else page
    with answering_with(body, Content_Encoding=coding) as url:
        assert UrlSource(url, largest=len(page)).gather().families
        with pytest.raises(SourceError, match="has more than"):
            UrlSource(url, largest=len(page) - 1).gather()


def test_a_small_answer_that_unpacks_to_much_is_refused_early() -> None:
    """A page has a limit of samples, and no more of it is unpacked than is read."""
    bomb = gzip.compress(b"".join(b'a{x="%d"} 1\n' % number for number in range(200_000)))
    with answering_with(bomb, Content_Encoding="gzip") as url:
        with pytest.raises(PageError, match="line 100001: the page has more than 100,000 samples"):
            UrlSource(url, PATIENCE).gather()
        with pytest.raises(PageError, match="line 8: the page has more than 7 samples"):
            UrlSource(url, PATIENCE, config={"sample_limit": 7}).gather()


def test_a_compressed_page_may_have_several_members() -> None:
    """The members of a gzip file are one page."""
    body = gzip.compress(b"a 1\nb") + gzip.compress(b" 2\n")
    with answering_with(body, Content_Encoding="gzip") as url:
        assert [family.name for family in UrlSource(url).gather().families] == ["a", "b"]


@pytest.mark.parametrize(
    ("kind", "is_openmetrics"),
    [
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", True),
        ("Application/OpenMetrics-Text", True),
        ("text/plain; version=0.0.4", False),
        ("text/html", False),
        ("", False),
    ],
)
def test_the_content_type_tells_the_format(kind: str, *, is_openmetrics: bool) -> None:
    """A page is OpenMetrics if its Content-Type says so, and text otherwise."""
    with answering_with(b"# TYPE a counter\na_total 1\n# EOF\n", Content_Type=kind) as url:
        (family,) = UrlSource(url).gather().families
    assert family.type == ("counter" if is_openmetrics else "unknown")


def test_one_refused_page_is_one_problem() -> None:
    """A page with many bad lines costs one problem, which names the first."""
    with answering_with(b"a 1\n" + b"x y z\n" * 1000) as url:
        gathering = Gathering([UrlSource(url)], None)
        (answer,) = gathering.wait()
    detail = "PageError: line 2: no value, or something behind it that is no time: x y z"
    assert answer.gathered.problems == [Problem(url, "source_failed", detail)]
    assert answer.gathered.families == ()


def test_a_series_that_is_there_again_is_a_problem() -> None:
    """The first of two equal series is kept, and the source is up."""
    with answering_with(b'a 1\na{x=""} 2\nb 1\nb 1\n') as url:
        gathered = UrlSource(url).gather()
    assert [family.samples[0].value for family in gathered.families] == [1, 1]
    detail = "a series of a is there again, and of 1 other name; the first is kept"
    assert gathered.problems == [Problem(url, "repeated_series", detail)]
