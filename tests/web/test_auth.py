"""TLS, passwords and headers of a web configuration file, on real sockets."""

from __future__ import annotations

import http.client
import os
import ssl
import threading
from base64 import b64encode
from contextlib import ExitStack
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import bcrypt
import pytest
import trustme

from mpmetrics.web.auth import check_bcrypt
from mpmetrics.web.web_config import WebConfig, read_web_config
from tests.servers import Response, fetch
from tests.web.page_servers import serving
from tests.workers import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path


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


def test_an_unknown_user_costs_as_much_as_a_wrong_password(directory: Path, tmp_path: Path) -> None:
    """An unknown user costs one comparison with the costliest hash, as a wrong password does."""
    cheap, costly = (bcrypt.hashpw(b"right", bcrypt.gensalt(cost)) for cost in (4, 5))
    config = web_config(
        tmp_path,
        f"basic_auth_users:\n  alice: {cheap.decode()}\n  bob: {costly.decode()}\n",
    )
    compared = []

    def record(password: bytes, hashed: bytes) -> bool:
        compared.append(hashed)
        return check_bcrypt(password, hashed)

    with serving(directory, web_config=config, check_password=record) as server:
        for user, password in (("bob", "wrong"), ("carol", "wrong"), ("carol", "right")):
            assert fetch(server.address, headers=basic(user, password)).status == 401
    assert compared == [costly] * 3


def test_guesses_do_not_hold_up_scrapes(directory: Path, tmp_path: Path) -> None:
    """A known user is answered while more guesses are being checked than the pool has threads."""
    hashed = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
    config = web_config(tmp_path, f"basic_auth_users:\n  alice: {hashed}\n")
    guesses = (os.cpu_count() or 1) + 10
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
