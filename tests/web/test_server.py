"""A page on a port of its own: paths, addresses, TLS, passwords; on real sockets."""

from __future__ import annotations

import gzip
import http.client
import logging
import os
import socket
import ssl
import threading
import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import bcrypt
import pytest
import trustme

from mpmetrics import Page
from mpmetrics.errors import ListenError
from mpmetrics.pages.sources import DirectorySource
from mpmetrics.web.server import Serving
from mpmetrics.web.web_config import WebConfig, read_web_config
from tests.cli.directories import fill
from tests.database import counter
from tests.servers import Response, fetch
from tests.workers import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory with two counters."""
    path = tmp_path / "metrics"
    path.mkdir()
    return fill(path, {"counter_7.db": [counter("jobs", 3), counter("other", 1)]})


@contextmanager
def serving(
    directory: Path, listen: str = "127.0.0.1:0", web_config: WebConfig | None = None
) -> Iterator[Serving]:
    """Serve the directory until the end of the block."""
    server = Serving(Page([DirectorySource(directory)]), listen, web_config=web_config)
    server.start()
    try:
        yield server
    finally:
        server.stop()


# -- paths -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "/metrics?x=1"])
def test_the_page_is_at_metrics(directory: Path, path: str) -> None:
    """With or without a slash, and whatever else is asked."""
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
    """Nothing is served by the beginning of its name."""
    with serving(directory) as server:
        assert fetch(server.address + path).status == 404


def test_health_readiness_and_an_index(directory: Path) -> None:
    """Healthy is who answers, ready is whose directory can be read."""
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
    """HEAD is GET without a body, others are refused with what is allowed."""
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
    """As for the embedded applications."""
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


# -- addresses -------------------------------------------------------------------------------------


def test_ipv6(directory: Path) -> None:
    """The address has brackets, in and out."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("there is no IPv6 here")
    with serving(directory, "[::1]:0") as server:
        assert server.address.startswith("http://[::1]:")
        assert fetch(server.address + "/metrics").status == 200


def test_every_interface(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It can be reached by any address, and that is worth a warning."""
    with caplog.at_level(logging.WARNING, "mpmetrics"), serving(directory, ":0") as server:
        port = urlsplit(server.address).port
        assert fetch(f"http://127.0.0.1:{port}/metrics").status == 200
    (message,) = caplog.messages
    assert "other machines can read this page, and nobody is asked for a password" in message


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:0", "unix:{}/socket"])
def test_no_warning_without_reason(
    directory: Path, tmp_path: Path, listen: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody else can connect to these."""
    with (
        caplog.at_level(logging.WARNING, "mpmetrics"),
        serving(directory, listen.format(tmp_path)),
    ):
        assert caplog.messages == []


@pytest.mark.parametrize(
    ("listen", "why"),
    [
        ("nowhere", "not of the form HOST:PORT"),
        ("::1:80", "not of the form HOST:PORT"),
        ("127.0.0.1:", "'' is not a port"),
        ("127.0.0.1:65536", "'65536' is not a port"),
        ("127.0.0.1:-1", "'-1' is not a port"),
        ("127.0.0.1:http", "'http' is not a port"),
        ("unix:", "no path"),
        ("192.0.2.1:0", "assign"),
        ("no-such-host.invalid:0", ""),
    ],
)
def test_an_impossible_address(listen: str, why: str) -> None:
    """It is told in one line that names it."""
    with pytest.raises(ListenError) as caught:
        Serving(Page([]), listen)
    assert str(caught.value).startswith(f"cannot listen on {listen}: ")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_port_that_is_taken() -> None:
    """Whoever has it keeps it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ListenError, match="in use"):
            Serving(Page([]), listen)


def fetch_unix(path: str) -> Response:
    """Fetch the page from a socket in the file system."""
    connection = http.client.HTTPConnection("localhost", timeout=PATIENCE)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(PATIENCE)
    connection.sock.connect(path)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        return Response(answer.status, dict(answer.getheaders()), answer.read())
    finally:
        connection.close()


def test_a_unix_socket(directory: Path, tmp_path: Path) -> None:
    """It goes with its server; one that a killed server has left is replaced."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    with serving(directory, f"unix:{path}") as server:
        assert server.address == f"unix:{path}"
        assert fetch_unix(str(path)).status == 200
        with pytest.raises(ListenError, match="in use"):
            Serving(Page([]), f"unix:{path}")
        assert fetch_unix(str(path)).status == 200
    assert not path.exists()


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs unix sockets")
def test_a_unix_socket_of_a_server_that_hangs(tmp_path: Path) -> None:
    """It is in use, although its server accepts nobody; that is known without waiting in line."""
    path = str(tmp_path / "socket")
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(0)
        with suppress(BlockingIOError):
            while True:
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.settimeout(0)
                client.connect(path)
        with pytest.raises(ListenError, match="in use"):
            Serving(Page([]), f"unix:{path}")


def test_what_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    """Whoever mistypes a path loses no file."""
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(ListenError, match="not a socket"):
        Serving(Page([]), f"unix:{path}")
    assert path.read_text() == "data"


# -- TLS and passwords -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return somebody who makes certificates."""
    return trustme.CA()


def web_config(tmp_path: Path, text: str) -> WebConfig:
    """Return what a file with this text says."""
    path = tmp_path / "web.yml"
    path.write_text(text)
    return read_web_config(path)


@pytest.fixture
def tls(tmp_path: Path, authority: trustme.CA) -> str:
    """Return the beginning of a file with a certificate."""
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n"


def fetch_tls(url: str, context: ssl.SSLContext, **headers: str) -> Response:
    """Fetch over TLS."""
    parts = urlsplit(url)
    connection = http.client.HTTPSConnection(parts.netloc, timeout=PATIENCE, context=context)
    try:
        connection.request("GET", "/metrics", headers=headers)
        answer = connection.getresponse()
        return Response(answer.status, dict(answer.getheaders()), answer.read())
    finally:
        connection.close()


def test_tls(directory: Path, tmp_path: Path, tls: str, authority: trustme.CA) -> None:
    """Who trusts the authority reads the page; without TLS nothing is to be had."""
    client = ssl.create_default_context()
    authority.configure_trust(client)
    with serving(directory, web_config=web_config(tmp_path, tls)) as server:
        assert server.address.startswith("https://127.0.0.1:")
        assert fetch_tls(server.address, client).status == 200
        with pytest.raises((OSError, http.client.HTTPException)):
            fetch(server.address.replace("https", "http") + "/metrics")
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        assert fetch_tls(server.address, client).status == 200


def test_certificates_of_clients(
    directory: Path, tmp_path: Path, tls: str, authority: trustme.CA
) -> None:
    """Who has none, or one with another name, is not let in."""
    config = f"{tls}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n"
    config += "  client_allowed_sans: [prometheus.example]\n"
    with serving(directory, web_config=web_config(tmp_path, config)) as server:
        for name, is_let_in in {
            "prometheus.example": True,
            "evil.example": False,
            "": False,
        }.items():
            client = ssl.create_default_context()
            authority.configure_trust(client)
            if name:
                authority.issue_cert(name).configure_cert(client)
            if is_let_in:
                assert fetch_tls(server.address, client).status == 200
            else:
                with pytest.raises((OSError, http.client.HTTPException)):
                    fetch_tls(server.address, client)


def basic(user: str, password: str) -> dict[str, str]:
    """Return the header with user and password."""
    return {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


def test_passwords(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody without, or with a wrong one; a right one costs its hashing once."""
    hashed = bcrypt.hashpw("geheim:ü".encode(), bcrypt.gensalt(4)).decode()
    config = web_config(tmp_path, f"basic_auth_users:\n  alice: {hashed}\n")
    checked = []
    check = bcrypt.checkpw

    def counted(password: bytes, hashed: bytes) -> bool:
        checked.append(password)
        return check(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", counted)
    with serving(directory, web_config=config) as server:
        url = server.address + "/metrics"
        for headers in (
            {},
            basic("alice", "wrong"),
            basic("bob", "geheim:ü"),
            {"Authorization": "Basic ?"},
            {"Authorization": "Bearer x"},
            {"Authorization": "Basic YWxpY2U="},
        ):
            refused = fetch(url, headers=headers)
            assert refused.status == 401
            assert refused.headers["www-authenticate"].startswith("Basic realm=")
            assert b"jobs" not in refused.body
        assert len(checked) == 2
        for path in ("/metrics", "/", "/-/healthy", "/metrics"):
            assert fetch(server.address + path, headers=basic("alice", "geheim:ü")).status == 200
        assert len(checked) == 3
        assert fetch(server.address + "/-/healthy").status == 401


def test_an_unknown_user_costs_as_much_as_a_wrong_password(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody learns from the time of an answer who there is; not even one's password helps."""
    cheap, costly = (bcrypt.hashpw(b"right", bcrypt.gensalt(cost)) for cost in (4, 5))
    users = f"basic_auth_users:\n  alice: {cheap.decode()}\n  bob: {costly.decode()}\n"
    compared = []
    check = bcrypt.checkpw

    def kept(password: bytes, hashed: bytes) -> bool:
        compared.append(hashed)
        return check(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", kept)
    with serving(directory, web_config=web_config(tmp_path, users)) as server:
        for user, password in (("bob", "wrong"), ("nobody", "wrong"), ("nobody", "right")):
            assert fetch(server.address, headers=basic(user, password)).status == 401
    assert compared == [costly] * 3


def test_who_guesses_does_not_hold_up_scrapes(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While more guesses are being judged than there are threads, who is known is answered."""
    hashed = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
    config = web_config(tmp_path, f"basic_auth_users:\n  alice: {hashed}\n")
    guesses = (os.cpu_count() or 1) + 10
    over = threading.Event()
    with serving(directory, web_config=config) as server, ExitStack() as stack:
        stack.callback(over.set)
        assert fetch(server.address, headers=basic("alice", "right")).status == 200
        monkeypatch.setattr(bcrypt, "checkpw", lambda *_: over.wait(PATIENCE) and False)
        parts = urlsplit(server.address)
        for number in range(guesses):
            guess = http.client.HTTPConnection(parts.netloc, timeout=PATIENCE)
            stack.callback(guess.close)
            guess.request("GET", "/metrics", headers=basic("alice", f"guess {number}"))
        url = server.address + "/metrics"
        # None of them is known to have arrived; but a few answers later all of them have.
        for _ in range(guesses):
            assert fetch(url, headers=basic("alice", "right")).status == 200


def test_added_headers(directory: Path, tmp_path: Path) -> None:
    """Each response has them, refusals included."""
    text = "http_server_config:\n  headers:\n    X-Frame-Options: deny\n    X-XSS-Protection: ''\n"
    with serving(directory, web_config=web_config(tmp_path, text)) as server:
        for path in ("/metrics", "/nowhere"):
            headers = fetch(server.address + path).headers
            assert headers["x-frame-options"] == "deny"
            assert "x-xss-protection" not in headers


# -- nothing is left -------------------------------------------------------------------------------


def test_many_requests_leave_nothing_behind(directory: Path) -> None:
    """Neither threads nor descriptors grow, and all of them go in the end."""

    def held() -> tuple[int, int]:
        descriptors = Path("/proc/self/fd")
        count = len(os.listdir(descriptors)) if descriptors.exists() else 0  # noqa: PTH208
        return threading.active_count(), count

    before = held()
    with serving(directory) as server:
        url = server.address + "/metrics"
        for _ in range(20):
            fetch(url)
        during = held()
        for _ in range(300):
            assert fetch(url).status == 200
        threads, descriptors = held()
        # The pool of the event loop has a thread for each processor, and a few.
        assert threads <= during[0] + (os.cpu_count() or 1) + 4
        assert descriptors <= during[1] + 2
    assert held()[1] == before[1]


@pytest.mark.parametrize("within", ["1", "1.0"])
def test_the_scrape_timeout_of_the_client_is_a_limit(within: str) -> None:
    """Who gives up before the sources are given up gets a page in time, and the next one, too."""
    go_on = threading.Event()

    def slow() -> str:
        assert go_on.wait(PATIENCE)
        return "slow 1\n"

    server = Serving(Page([slow, lambda: "quick 1\n"], timeout=PATIENCE), "127.0.0.1:0")
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
    """A scrape that is being answered at the end is answered, with what there is by then."""
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        assert go_on.wait(PATIENCE)
        return "slow 1\n"

    server = Serving(Page([slow, lambda: "quick 1\n"], timeout=PATIENCE), "127.0.0.1:0")
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
    """Fifty at once are one; who comes later gets a new one."""
    calls = []
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        calls.append(1)
        begun.set()
        assert go_on.wait(PATIENCE)
        return f"calls {len(calls)}\n"

    server = Serving(Page([slow]), "127.0.0.1:0")
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
        # All of them wait for the same: there is nothing to see from outside but their number.
        while len(server._server.server_state.tasks) < 1 + len(others):
            first.join(0.01)
        go_on.set()
        for each in [first, *others]:
            each.join()
        assert [answer.status for answer in answers] == [200] * 11
        assert calls == [1]
        assert b"calls 2.0\n" in fetch(url).body
    finally:
        go_on.set()
        server.stop()
