"""Passwords and queries of a URL: sent where they belong, and shown nowhere."""

from __future__ import annotations

import base64
import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import trustme

import mpmetrics
from mpmetrics.errors import PageError, SourceError
from mpmetrics.pages.url_source import UrlSource
from mpmetrics.web.server import PageServer
from mpmetrics.web.web_config import read_web_config
from tests.servers import LOOPBACK, answering, free_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import Handler

PASSWORD, TOKEN = "hunter2", "s3cr3t"
BASIC = "Basic " + base64.b64encode(f"alice:{PASSWORD}".encode()).decode()


def secret_url(url: str) -> str:
    """Return *url* with a user, a password and a query."""
    return url.replace("http://", f"http://alice:{PASSWORD}@") + f"?token={TOKEN}#{TOKEN}"


def test_user_and_password_of_a_url_are_sent() -> None:
    """User, password and query of a URL reach the server, and the name has none of them."""
    seen = []

    def answer(handler: Handler) -> None:
        seen.append((handler.path, handler.headers["Authorization"]))
        handler.send(b"a 1\n")

    with answering(answer) as url:
        source = UrlSource(secret_url(url))
        assert source.gather().families
        assert source.name == url
    assert seen == [(f"/metrics?token={TOKEN}", BASIC)]


def failing(handler: Handler) -> None:
    """Answer with an error that repeats what was asked."""
    handler.send(handler.path.encode(), 500)


def repeating(handler: Handler) -> None:
    """Answer with a status line that repeats what was asked."""
    handler.wfile.write(f"{handler.path}\r\n".encode())


def redirecting(handler: Handler) -> None:
    """Send the client to another host, with what was asked."""
    handler.send(b"", 302, Location=f"http://elsewhere.invalid{handler.path}")


def redirecting_badly(handler: Handler) -> None:
    """Send the client to what is no URL, with what was asked."""
    handler.send(b"", 302, Location=f"http://[{TOKEN}/ x")


def garbage(handler: Handler) -> None:
    """Answer with what is no page."""
    handler.send(b"\xff\n")


def echoing(handler: Handler) -> None:
    """Answer with a page that repeats the request, as it came and decoded."""
    credentials = handler.headers["Authorization"].removeprefix("Basic ")
    handler.send(f"{base64.b64decode(credentials).decode()} {handler.path}\n".encode())


def echoing_header(handler: Handler) -> None:
    """Answer with a page that has the header with the password, which a message would cut off."""
    handler.send(f"{'x' * 70}{handler.headers['Authorization']}\n".encode())


def silent(handler: Handler) -> None:
    """Never answer."""
    handler.server.over.wait()


@pytest.mark.parametrize(
    "answer",
    [
        *(failing, repeating, redirecting, redirecting_badly, garbage, echoing, echoing_header),
        *(silent, None),
    ],
)
def test_no_failure_shows_a_secret(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Page, problem, log, exception and representation have no password, user or query."""
    caplog.set_level(logging.DEBUG)
    with ExitStack() as stack:
        url = f"http://{LOOPBACK}:{free_port()}/metrics"
        if answer is not None:
            url = stack.enter_context(answering(answer))
        source = UrlSource(secret_url(url), 0.3)
        page = mpmetrics.Page(source)
        shown = page.render().decode()
        try:
            source.gather()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what users see
            shown += f"{error} {error!r}"
        shown += f"{source!r} {vars(page)} {caplog.text}"
    assert f'mpmetrics_source_up{{source="{url}"}} 0.0' in shown
    for secret in (PASSWORD, TOKEN, "alice", BASIC[:12]):
        assert secret not in shown


def test_a_refused_line_without_a_secret_is_shown() -> None:
    """A line that has nothing of the request is in the message as it is, also with a password."""
    with (
        answering(lambda handler: handler.send(b"a 1\nno number\n")) as url,
        pytest.raises(PageError, match=r"line 2: .*: no number$"),
    ):
        UrlSource(secret_url(url)).gather()


def test_a_token_of_a_configuration_is_not_shown() -> None:
    """A refused line that repeats a token which a configuration has is not shown."""
    with answering(lambda handler: handler.send(b"? tok3nZ, \n")) as url:
        source = UrlSource(url, config={"authorization": {"credentials": "tok3nZ"}})
        with pytest.raises(PageError, match=r"line 1: .*it is not shown$") as raised:
            source.gather()
    assert "tok3nZ" not in f"{raised.value!r}"


@pytest.mark.parametrize(
    "url",
    [
        f"ftp://alice:{PASSWORD}@x/?{TOKEN}",
        f"http://alice:{PASSWORD}@/?{TOKEN}",
        f"http://alice:{PASSWORD}@x:port/?{TOKEN}",
        f"http://alice:{PASSWORD}@[x/?{TOKEN}",
        f"http://alice:{PASSWORD}@x/ {TOKEN}",
        f"http://x/\x00?{TOKEN}",
        f"http://x/ä?{TOKEN}",
        f"{TOKEN}://",
    ],
)
def test_a_url_that_cannot_be_asked_is_refused_without_a_secret(url: str) -> None:
    """The error of a wrong URL shows its scheme at most."""
    with pytest.raises(SourceError) as caught:
        UrlSource(url)
    shown = str(caught.value).replace(f"{TOKEN}://", "")
    assert PASSWORD not in shown
    assert TOKEN not in shown


@pytest.mark.parametrize(
    "url", ["http://x", "http://X:80/", "https://[::1]:9100/a/b;c", "http://x/a%20b"]
)
def test_the_name_of_a_source_is_its_url(url: str) -> None:
    """A URL without secrets is the name of its source, as it was given."""
    assert UrlSource(url).name == url
    assert UrlSource(url.replace("://", "://a:b@") + "?c#d").name == url


def test_a_name_can_be_given() -> None:
    """The name of a source is in `mpmetrics_source_up`, and equal names get a number."""
    url = f"http://{LOOPBACK}:{free_port()}/metrics"
    page = mpmetrics.Page([UrlSource(url, name="node"), UrlSource(f"{url}?a"), UrlSource(url)])
    up = [line for line in page.render().decode().splitlines() if line.startswith("mpmetrics_sou")]
    assert up == [
        f'mpmetrics_source_up{{source="{url}"}} 0.0',
        f'mpmetrics_source_up{{source="{url}-2"}} 0.0',
        'mpmetrics_source_up{source="node"} 0.0',
    ]


def hops(*locations: str) -> tuple[Any, list[tuple[str, str | None]]]:
    """Return an answer that leads from one location to the next, and the requests it gets."""
    seen: list[tuple[str, str | None]] = []

    def answer(handler: Handler) -> None:
        seen.append((handler.path.partition("?")[0], handler.headers["Authorization"]))
        number = len(seen) - 1
        if number < len(locations):
            handler.send(b"", 302, Location=locations[number])
        else:
            handler.send(b"a 1\n")

    return answer, seen


def test_a_redirection_to_the_same_server_keeps_the_password() -> None:
    """A redirection within a server is followed, with the password."""
    answer, seen = hops("/b?x=1", "c", "../d/./e")
    with answering(answer) as url:
        assert UrlSource(secret_url(url)).gather().families
    assert seen == [(path, BASIC) for path in ("/metrics", "/b", "/c", "/d/e")]


def test_a_password_is_not_sent_to_another_server() -> None:
    """Another port of the host is another server: it is asked without the password."""
    answer, seen = hops()
    with answering(answer) as other, answering(hops(other)[0]) as url:
        assert UrlSource(secret_url(url)).gather().families
    assert seen == [("/metrics", None)]


@pytest.mark.parametrize(
    ("hosts", "is_up"), [([], False), (["localhost"], True), (["localhost:1"], False)]
)
def test_another_host_has_to_be_allowed(*, hosts: list[str], is_up: bool) -> None:
    """A redirection to another host is followed if the configuration allows the host."""
    answer, seen = hops()
    with answering(answer) as other:
        there = other.replace(LOOPBACK, "localhost")
        with answering(hops(there)[0]) as url:
            source = UrlSource(secret_url(url), config={"redirect_hosts": hosts})
            if is_up:
                assert source.gather().families
            else:
                with pytest.raises(SourceError, match="leads to 'localhost'"):
                    source.gather()
    assert seen == ([("/metrics", None)] if is_up else [])


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("file:///etc/passwd", "only http and https"),
        ("ftp://127.0.0.1/", "only http and https"),
        ("//elsewhere.invalid/", "leads to 'elsewhere.invalid'"),
        ("http://127.0.0.1:x/", "cannot be followed"),
    ],
)
def test_a_redirection_that_is_not_followed(location: str, why: str) -> None:
    """A redirection to a file, another scheme or a host that is not allowed is an error."""
    with (
        answering(lambda handler: handler.send(b"", 302, Location=location)) as url,
        pytest.raises(SourceError, match=why),
    ):
        UrlSource(url).gather()


def test_redirections_end() -> None:
    """A circle of redirections ends, and so does every one if they are not allowed."""
    with answering(lambda handler: handler.send(b"", 307, Location="/")) as url:
        with pytest.raises(SourceError, match="more than 10 redirections"):
            UrlSource(url).gather()
        with pytest.raises(SourceError, match="status of its answer is 307"):
            UrlSource(url, config={"follow_redirects": False}).gather()


def test_the_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source is asked directly, as Prometheus does, whatever proxy the environment names."""
    monkeypatch.setenv("http_proxy", f"http://{LOOPBACK}:{free_port()}")
    with answering(lambda handler: handler.send(b"a 1\n")) as url:
        assert UrlSource(url).gather().families


def test_a_source_behind_tls_and_a_password(tmp_path: Path) -> None:
    """A source with the right CA and password is up; without either it is down."""
    import bcrypt

    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    both = authority.issue_cert(LOOPBACK).private_key_and_cert_chain_pem
    both.write_to_path(tmp_path / "both.pem")
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (tmp_path / "web.yml").write_text(
        "tls_server_config: {cert_file: both.pem, key_file: both.pem}\n"
        f"basic_auth_users: {{alice: {hashed}}}\n"
    )
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    (tmp_path / "source.yml").write_text(
        "tls_config: {ca_file: ca.pem}\nbasic_auth: {username: alice, password_file: password}\n"
    )
    config = read_web_config(tmp_path / "web.yml")
    server = PageServer(mpmetrics.Page(lambda: "a 1\n"), f"{LOOPBACK}:0", web_config=config)
    server.start()
    try:
        url = f"{server.address}/metrics"
        source = UrlSource(url, config=tmp_path / "source.yml")
        assert "a" in {family.name for family in source.gather().families}
        with pytest.raises(OSError, match="certificate verify failed"):
            UrlSource(url).gather()
        (tmp_path / "password").write_text("other")
        with pytest.raises(SourceError, match="status of its answer is 401"):
            source.gather()
    finally:
        server.stop()
