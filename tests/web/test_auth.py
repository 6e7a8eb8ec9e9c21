"""TLS, passwords and headers of a web configuration file, on real sockets."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from base64 import b64encode
from contextlib import ExitStack
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import bcrypt
import pytest
import trustme

from mpmetrics.web.password_queue import MOST_OF_A_NETWORK
from mpmetrics.web.users import Users, check_bcrypt
from mpmetrics.web.web_config import WebConfig, read_web_config
from tests.servers import Response, eventually, fetch
from tests.web.page_servers import serving
from tests.workers import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

    from mpmetrics.web import PageServer


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return an authority that issues certificates."""
    return trustme.CA()


def web_config(tmp_path: Path, text: str) -> WebConfig:
    """Return the settings of a file with this text."""
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
    """A client that trusts the authority reads the page; a client without TLS does not."""
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
    """A client without a certificate, or with another name, is refused."""
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


def head(user: str, password: str) -> bytes:
    """Return the bytes of a request with user and password."""
    authorization = basic(user, password)["Authorization"]
    return f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n\r\n".encode()


def address_of(server: PageServer) -> tuple[str, int]:
    """Return the host and the port of a *server*."""
    parts = urlsplit(server.address)
    return parts.hostname or "", parts.port or 0


def test_passwords(directory: Path, tmp_path: Path) -> None:
    """A request needs the right password; it is hashed once, and remembered."""
    hashed = bcrypt.hashpw("geheim:ü".encode(), bcrypt.gensalt(4)).decode()
    config = web_config(tmp_path, f"basic_auth_users:\n  alice: {hashed}\n")
    checked = []

    def count(password: bytes, hashed: bytes) -> bool:
        checked.append(password)
        return check_bcrypt(password, hashed)

    with serving(directory, web_config=config, check_password=count) as server:
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


COSTS = (4, 6, 7)


@pytest.mark.parametrize("given", [b"wrong", b"right"])
@pytest.mark.parametrize("user", [*(f"cost{cost}" for cost in COSTS), "unknown"])
def test_the_work_does_not_tell_who_is_a_user(user: str, given: bytes) -> None:
    """A comparison takes the work of the costliest hash for known and unknown users.

    The work of a hash is 2 to the power of its cost.
    """
    hashes = {f"cost{cost}": bcrypt.hashpw(b"right", bcrypt.gensalt(cost)) for cost in COSTS}
    compared = []

    def record(password: bytes, hashed: bytes) -> bool:
        compared.append(hashed)
        return check_bcrypt(password, hashed)

    is_right = Users(hashes, record).compare(user, given)
    assert is_right == (given == b"right" and user in hashes)
    assert sum(2 ** int(hashed[4:6]) for hashed in compared) == 2 ** max(COSTS)
    assert compared[0] == hashes.get(user, hashes["cost7"])


def test_a_wrong_password_is_compared_once(directory: Path, tmp_path: Path) -> None:
    """A pair that was wrong once is refused from memory; a right one is still let in."""
    hashed = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
    config = web_config(tmp_path, f"basic_auth_users:\n  alice: {hashed}\n")
    checked = []

    def record(password: bytes, hashed: bytes) -> bool:
        checked.append(password)
        return check_bcrypt(password, hashed)

    with serving(directory, web_config=config, check_password=record) as server:
        for _ in range(5):
            assert fetch(server.address, headers=basic("alice", "wrong")).status == 401
        assert fetch(server.address, headers=basic("alice", "right")).status == 200
        assert fetch(server.address, headers=basic("alice", "wrong")).status == 401
    assert checked == [b"wrong", b"right"]


def test_a_client_that_hangs_up_is_not_waited_for(directory: Path, tmp_path: Path) -> None:
    """Guesses of clients that have gone are not compared: a user waits for one comparison only."""
    hashed = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
    config = web_config(tmp_path, f"basic_auth_users:\n  alice: {hashed}\n")
    checked, over = [], threading.Event()

    def check(password: bytes, _: bytes) -> bool:
        checked.append(password)
        assert over.wait(PATIENCE)
        return password == b"right"

    with (
        serving(directory, web_config=config, check_password=check) as server,
        ExitStack() as stack,
    ):
        stack.callback(over.set)
        parts = urlsplit(server.address)
        for number in range(2 * MOST_OF_A_NETWORK):
            with socket.create_connection(address_of(server), PATIENCE) as guess:
                guess.sendall(head("alice", f"guess {number}"))
                guess.shutdown(socket.SHUT_WR)
                assert guess.recv(1) == b""  # the server has noticed
        for _ in range(3):  # and by now it has done what follows from that
            assert fetch(server.address).status == 401
        # Its turn comes when the one comparison is over that has begun.
        right = http.client.HTTPConnection(parts.netloc, timeout=PATIENCE)
        stack.callback(right.close)
        right.request("GET", "/metrics", headers=basic("alice", "right"))
        over.set()
        assert right.getresponse().status == 200
    assert checked == [b"guess 0", b"right"]


def test_a_network_with_too_many_guesses_is_told_so(directory: Path, tmp_path: Path) -> None:
    """Guesses beyond those that may wait are refused at once, with the time to try again."""
    hashed = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
    config = web_config(tmp_path, f"basic_auth_users:\n  alice: {hashed}\n")
    over = threading.Event()

    def check(password: bytes, _: bytes) -> bool:
        return password == b"right" or (over.wait(PATIENCE) and False)

    with (
        serving(directory, web_config=config, check_password=check) as server,
        ExitStack() as stack,
    ):
        stack.callback(over.set)
        assert fetch(server.address, headers=basic("alice", "right")).status == 200
        parts = urlsplit(server.address)
        # One is being compared, and the others wait.
        for number in range(1 + MOST_OF_A_NETWORK):
            guess = http.client.HTTPConnection(parts.netloc, timeout=PATIENCE)
            stack.callback(guess.close)
            guess.request("GET", "/metrics", headers=basic("alice", f"guess {number}"))

        def is_refused() -> bool:
            # If it comes before the last of the others, it waits in its place.
            with socket.create_connection(address_of(server), PATIENCE) as client:
                client.sendall(head("alice", "more"))
                client.settimeout(0.5)
                try:
                    answer = client.recv(1 << 12)
                except TimeoutError:
                    return False
                return b" 429 " in answer and b"retry-after: 1" in answer

        eventually(is_refused, "the queue is full")
        assert fetch(server.address, headers=basic("alice", "right")).status == 200


def test_no_thread_of_a_server_outlives_it(directory: Path, tmp_path: Path) -> None:
    """The thread that compares passwords ends with its server."""
    hashed = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
    config = web_config(tmp_path, f"basic_auth_users:\n  alice: {hashed}\n")
    threads = []

    def check(password: bytes, hashed: bytes) -> bool:
        threads.append(threading.current_thread())
        return check_bcrypt(password, hashed)

    with serving(directory, web_config=config, check_password=check) as server:
        assert fetch(server.address, headers=basic("alice", "wrong")).status == 401
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_guesses_do_not_hold_up_scrapes(directory: Path, tmp_path: Path) -> None:
    """A known user is answered while as many guesses wait as may."""
    hashed = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
    config = web_config(tmp_path, f"basic_auth_users:\n  alice: {hashed}\n")
    guesses = MOST_OF_A_NETWORK
    over = threading.Event()

    def check(password: bytes, _: bytes) -> bool:
        return password == b"right" or (over.wait(PATIENCE) and False)

    with (
        serving(directory, web_config=config, check_password=check) as server,
        ExitStack() as stack,
    ):
        stack.callback(over.set)
        assert fetch(server.address, headers=basic("alice", "right")).status == 200
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
    """Each response has the added headers, refusals included."""
    text = "http_server_config:\n  headers:\n    X-Frame-Options: deny\n    X-XSS-Protection: ''\n"
    with serving(directory, web_config=web_config(tmp_path, text)) as server:
        for path in ("/metrics", "/nowhere"):
            headers = fetch(server.address + path).headers
            assert headers["x-frame-options"] == "deny"
            assert "x-xss-protection" not in headers
