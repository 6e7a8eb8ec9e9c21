"""The web configuration file: every field, and every mistake in one line."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trustme
from cryptography.hazmat.primitives import serialization as form

from mpmetrics.errors import WebConfigError
from mpmetrics.web.web_config import WebConfig, read_web_config

if TYPE_CHECKING:
    from pathlib import Path

HASH = "$2y$04$" + "u" * 53
FILES = "cert_file: cert.pem, key_file: key.pem"


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Return an authority that issues certificates."""
    return trustme.CA()


@pytest.fixture
def directory(tmp_path: Path, authority: trustme.CA) -> Path:
    """Return a directory with a certificate, its key, and another key."""
    own, other = authority.issue_cert("localhost"), authority.issue_cert("localhost")
    own.private_key_pem.write_to_path(tmp_path / "key.pem")
    own.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    other.private_key_pem.write_to_path(tmp_path / "other.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path


def read(directory: Path, text: str) -> WebConfig:
    """Return the settings of a file with this text."""
    path = directory / "web.yml"
    path.write_text(text)
    return read_web_config(path)


def read_tls(directory: Path, fields: str) -> WebConfig:
    """Return the settings of a file with these fields of `tls_server_config`."""
    return read(directory, f"tls_server_config: {{{FILES}, {fields}}}")


def context(config: WebConfig) -> ssl.SSLContext:
    """Return the TLS context, which must be there."""
    assert config.tls is not None
    return config.tls


@pytest.mark.parametrize(
    "text", ["", "{}", "tls_server_config:", "basic_auth_users: {}", "http_server_config: {}"]
)
def test_a_file_without_settings(directory: Path, text: str) -> None:
    """A file without settings is the same as no file."""
    config = read(directory, text)
    assert config == WebConfig()
    assert not config.requires_credentials


def test_users(directory: Path) -> None:
    """Users are hashes by name, with each of bcrypt's prefixes."""
    hashes = {name: f"$2{name}$04$" + "u" * 53 for name in "aby"}
    text = "".join(f"  {name}: {hashed}\n" for name, hashed in hashes.items())
    config = read(directory, f"basic_auth_users:\n{text}")
    assert config.users == {name: hashed.encode() for name, hashed in hashes.items()}
    assert config.requires_credentials


def test_tls_by_default(directory: Path) -> None:
    """By default files lie beside the configuration, TLS is 1.2 or newer, clients show nothing."""
    config = read(directory, f"tls_server_config: {{{FILES}}}")
    tls = context(config)
    assert tls.minimum_version is ssl.TLSVersion.TLSv1_2
    assert tls.maximum_version is ssl.TLSVersion.TLSv1_3
    assert tls.verify_mode is ssl.CERT_NONE
    assert tls.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    assert not config.requires_credentials


def test_certificates_may_be_in_the_file(directory: Path) -> None:
    """Certificates and keys may be text in the file instead of paths."""
    texts = {
        "cert": (directory / "cert.pem").read_text(),
        "key": (directory / "key.pem").read_text(),
        "client_ca": (directory / "ca.pem").read_text(),
    }
    lines = ["tls_server_config:", "  client_auth_type: RequireAndVerifyClientCert"]
    for name, text in texts.items():
        lines += [f"  {name}: |", *(f"    {line}" for line in text.splitlines())]
    config = read(directory, "\n".join(lines))
    assert context(config).verify_mode is ssl.CERT_REQUIRED
    assert config.requires_credentials


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("NoClientCert", ssl.CERT_NONE),
        ("VerifyClientCertIfGiven", ssl.CERT_OPTIONAL),
        ("RequireAndVerifyClientCert", ssl.CERT_REQUIRED),
    ],
)
def test_authentication_of_clients(directory: Path, kind: str, mode: ssl.VerifyMode) -> None:
    """Each of Go's ways to authenticate clients that OpenSSL can do is a verify mode."""
    config = read_tls(directory, f"client_ca_file: ca.pem, client_auth_type: {kind}")
    assert context(config).verify_mode is mode


def test_names_of_clients(directory: Path) -> None:
    """The allowed names of clients are a set."""
    fields = "client_ca_file: ca.pem, client_auth_type: RequireAndVerifyClientCert"
    config = read_tls(directory, f"{fields}, client_allowed_sans: [a.example, b.example]")
    assert config.allowed_sans == {"a.example", "b.example"}


def test_versions_ciphers_and_curves(directory: Path) -> None:
    """Versions, cipher suites and curves have Go's names; suites of TLS 1.3 are always allowed."""
    config = read_tls(
        directory,
        "min_version: TLS12, max_version: TLS12, prefer_server_cipher_suites: false, "
        "cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256], "
        "curve_preferences: [CurveP256]",
    )
    tls = context(config)
    assert tls.maximum_version is ssl.TLSVersion.TLSv1_2
    assert not tls.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    old = [each["name"] for each in tls.get_ciphers() if each["protocol"] == "TLSv1.2"]
    assert old == ["ECDHE-RSA-AES128-GCM-SHA256"]


def test_headers(directory: Path) -> None:
    """Empty headers are not sent; the field `http2` is accepted."""
    text = (
        "http_server_config: {http2: true, headers: {X-Frame-Options: deny, X-XSS-Protection: ''}}"
    )
    assert read(directory, text).headers == (("X-Frame-Options", "deny"),)


MISTAKES = {
    "[]": "the file is not a mapping",
    "{1: 2}": "the file is not a mapping",
    "a: [": "it is not YAML",
    "!!python/object/apply:os.getcwd []": "it is not YAML",
    "rate_limit: {burst: 3}": "'rate_limit' is not supported",
    "basic_auth_users: [a]": "basic_auth_users is not a mapping",
    "basic_auth_users: {bob: secret}": "the password of 'bob' is not a bcrypt hash",
    "basic_auth_users: {bob: 3}": "the password of 'bob' is not a bcrypt hash",
    f"basic_auth_users: {{bob: $2b$03${'a' * 53}}}": "the password of 'bob' is not a bcrypt hash",
    f"basic_auth_users: {{bob: $2b$32${'a' * 53}}}": "the password of 'bob' is not a bcrypt hash",
    f"basic_auth_users: {{bob: '$2b$10${'!' * 53}'}}": "the password of 'bob' is not a bcrypt hash",
    f"basic_auth_users: {{bob: $2b$21${'a' * 21}.{'a' * 31}}}": "the hash of 'bob' has cost 21",
    # bcrypt would raise an exception for this salt, whatever the password is.
    f"basic_auth_users: {{bob: $2b$10${'x' * 53}}}": "the password of 'bob' is not a bcrypt hash",
    'tls_server_config: {cert_file: "a\\0b", key_file: key.pem}': "a\\x00b: embedded null byte",
    "http_server_config: {http3: true}": "'http3' is not supported",
    "http_server_config: {headers: {Server: x}}": "the header 'Server' is not supported",
    'http_server_config: {headers: {X-Frame-Options: "a\\nb"}}': "an impossible value",
    "tls_server_config: {cert_file: cert.pem}": "exactly one of key and key_file",
    f"tls_server_config: {{{FILES}, cert: x}}": "exactly one of cert and cert_file",
    "tls_server_config: {cert_file: no.pem, key_file: key.pem}": "no.pem: No such file",
    "tls_server_config: {cert_file: cert.pem, key_file: other.pem}": "cert and key: ",
    "tls_server_config: {cert_file: web.yml, key_file: key.pem}": "cert and key: ",
}

TLS_MISTAKES = {
    "min_version: SSL30": "'SSL30' is not supported; use one of TLS10",
    "min_version: TLS13, max_version: TLS12": "min_version: is higher than max_version",
    "cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]": "'TLS_RSA_WITH_RC4_128_SHA' is not supported",
    "cipher_suites: yes": "cipher_suites: is not a list of texts",
    "prefer_server_cipher_suites: 1": "is neither true nor false",
    "curve_preferences: [Curve448]": "'Curve448' is not supported",
    "curve_preferences: [CurveP256, X25519]": "more than one curve is not supported",
    "client_auth_type: RequireAnyClientCert": "'RequireAnyClientCert' is not supported",
    "client_auth_type: RequireAndVerifyClientCert": "needs client_ca_file",
    "client_ca_file: key.pem": "client_ca: ",
    "client_ca_file: ca.pem, client_ca: x": "at most one of client_ca and client_ca_file",
    "client_allowed_sans: [a]": "needs RequireAndVerifyClientCert",
    "client_ca_file: 3": "client_ca_file: is not text",
    "passphrase: x": "'passphrase' is not supported",
}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *MISTAKES.items(),
        *((f"tls_server_config: {{{FILES}, {f}}}", w) for f, w in TLS_MISTAKES.items()),
    ],
)
def test_a_mistake_is_one_line(directory: Path, text: str, reason: str) -> None:
    """A mistake is one line that names the file and the field."""
    with pytest.raises(WebConfigError) as caught:
        read(directory, text)
    message = str(caught.value)
    assert message.startswith(f"{directory / 'web.yml'}: ")
    assert reason in message
    assert "\n" not in message


def test_a_missing_file(tmp_path: Path) -> None:
    """A missing file is an error that names its path."""
    with pytest.raises(WebConfigError, match=r"no\.yml: .*No such file"):
        read_web_config(tmp_path / "no.yml")


def test_a_key_with_a_passphrase_is_refused(directory: Path) -> None:
    """A key with a passphrase is an error; OpenSSL does not ask for it at the terminal."""
    key = form.load_pem_private_key((directory / "key.pem").read_bytes(), None)
    locked = key.private_bytes(
        form.Encoding.PEM, form.PrivateFormat.PKCS8, form.BestAvailableEncryption(b"x")
    )
    (directory / "key.pem").write_bytes(locked)
    with pytest.raises(WebConfigError, match="cert and key: "):
        read(directory, f"tls_server_config: {{{FILES}}}")
