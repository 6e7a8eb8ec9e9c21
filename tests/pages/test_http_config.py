"""The configuration of a source's requests: every field, every mistake in one line, no secret."""

from __future__ import annotations

import os
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from mpmetrics.errors import SourceConfigError
from mpmetrics.pages.http_config import HttpConfig, HttpSettings, Secret, TlsConfig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "hunter2"  # noqa: S105 - what no message may show


@contextmanager
def open_pipe(path: Path) -> Iterator[None]:
    """Keep a pipe open for writing."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        yield
    finally:
        os.close(descriptor)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory with a certificate, its key, secrets and other files."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    own = authority.issue_cert("localhost")
    own.private_key_pem.write_to_path(tmp_path / "key.pem")
    own.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    (tmp_path / "secret").write_text(f"  {SECRET}\n\n")
    (tmp_path / "user").write_text("alice\n")
    (tmp_path / "two-lines").write_text(f"{SECRET}\n{SECRET}\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    return tmp_path


def settings(directory: Path, text: str) -> HttpSettings:
    """Return the settings of a file with this text."""
    path = directory / "source.yml"
    path.write_text(text)
    return HttpSettings(path)


@pytest.mark.parametrize("text", ["", "{}", "basic_auth:", "tls_config: {}", "enable_http2: true"])
def test_a_file_without_settings(directory: Path, text: str) -> None:
    """A file without settings is the same as no file."""
    config = settings(directory, text).read()
    assert config.authorization() == HttpConfig().authorization() == ""
    assert (config.tls, config.follow_redirects) == (TlsConfig(), True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("basic_auth: {username: alice, password: hunter2}", "Basic YWxpY2U6aHVudGVyMg=="),
        ("basic_auth: {username: alice, password_file: secret}", "Basic YWxpY2U6aHVudGVyMg=="),
        ("basic_auth: {username_file: user, password_file: secret}", "Basic YWxpY2U6aHVudGVyMg=="),
        ("basic_auth: {username: alice}", "Basic YWxpY2U6"),
        ("basic_auth: {username: ä, password: '1'}", "Basic w6Q6MQ=="),
        ("authorization: {credentials: hunter2}", "Bearer hunter2"),
        ("authorization: {credentials_file: secret}", "Bearer hunter2"),
        ("authorization: {type: Token, credentials: hunter2}", "Token hunter2"),
        ("bearer_token: hunter2", "Bearer hunter2"),
        ("bearer_token_file: secret", "Bearer hunter2"),
    ],
)
def test_credentials(directory: Path, text: str, expected: str) -> None:
    """User, password and token are text, or in files that lie beside the configuration."""
    assert settings(directory, text).read().authorization() == expected


def test_other_fields(directory: Path) -> None:
    """Redirections and the limit of samples have their fields."""
    text = "{follow_redirects: false, redirect_hosts: [Other, 'b:81'], sample_limit: 7}"
    config = settings(directory, text).read()
    assert config.follow_redirects is False
    assert config.redirect_hosts == {"other", "b:81"}
    assert config.sample_limit == 7


def test_the_fields_may_be_a_mapping(directory: Path) -> None:
    """A program may pass the fields themselves."""
    fields = {"authorization": {"credentials_file": str(directory / "secret")}}
    assert HttpSettings(fields).read().authorization() == "Bearer hunter2"
    with pytest.raises(SourceConfigError, match="'oauth2' is not supported"):
        HttpSettings({"oauth2": {}})


MISTAKES: dict[str, str] = {
    "[]": "the file is not a mapping",
    "basic_auth: [": "it is not YAML: line 1",
    "basic_auth: {password: hunter2, password: [": "it is not YAML: line 1",
    "basic_auth: {username: a, password: *hunter2}": "it is not YAML: line 1",
    "basic_auth: hunter2": "basic_auth is not a mapping",
    "basic_auth: {user: a}": "basic_auth: 'user' is not supported",
    "basic_auth: {password: 1234567}": "basic_auth: password: is not text",
    'basic_auth: {password: "hunter2\\nx"}': "password: is not one line of text",
    "basic_auth: {password: hunter2, password_file: x}": "at most one of password and",
    "authorization: {credentials: hunter2, credentials_file: x}": "at most one of credentials",
    "authorization: {type: Basic, credentials: hunter2}": "for Basic use basic_auth",
    "authorization: {type: 'a b', credentials: hunter2}": "type: is not supported",
    "{basic_auth: {username: a}, authorization: {credentials: hunter2}}": "at most one of",
    "{basic_auth: {username: a}, bearer_token: hunter2}": "at most one of",
    "{bearer_token_file: a, bearer_token: hunter2}": "at most one of bearer_token and",
    "oauth2: {client_secret: hunter2}": "'oauth2' is not supported",
    "proxy_url: http://a:hunter2@b": "'proxy_url' is not supported",
    "follow_redirects: hunter2": "follow_redirects: is neither true nor false",
    "redirect_hosts: a": "redirect_hosts: is not a list of texts",
    "sample_limit: -1": "sample_limit: is not a whole number above zero",
    "sample_limit: true": "sample_limit: is not a whole number above zero",
    "tls_config: {ca_file: a, ca: b}": "at most one of ca and ca_file",
    "tls_config: {cert_file: cert.pem}": "cert_file and key_file need each other",
    "tls_config: {min_version: SSL30}": "'SSL30' is not supported; use one of TLS10",
    "tls_config: {insecure_skip_verify: 1}": "is neither true nor false",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_one_line_without_a_secret(directory: Path, text: str) -> None:
    """A mistake is one line that names the file and the field, and no value of a secret."""
    with pytest.raises(SourceConfigError) as caught:
        settings(directory, text)
    message = str(caught.value)
    assert message.startswith(f"{directory / 'source.yml'}: ")
    assert MISTAKES[text] in message
    assert "\n" not in message
    assert SECRET not in message
    assert "1234567" not in message


def test_a_file_that_is_missing_is_a_mistake(tmp_path: Path) -> None:
    """A configuration that is not there is an error that names its path."""
    with pytest.raises(SourceConfigError, match=r"no\.yml: .*No such file"):
        HttpSettings(tmp_path / "no.yml")


@pytest.mark.parametrize("name", ["two-lines", "bytes", "missing"])
def test_a_secret_that_no_header_can_have(directory: Path, name: str) -> None:
    """A file that is missing or not one line is an error that names it and shows nothing of it."""
    config = settings(directory, f"authorization: {{credentials_file: {name}}}").read()
    with pytest.raises(Exception, match=name) as caught:
        config.authorization()
    assert SECRET not in str(caught.value)


def test_no_representation_has_a_secret(directory: Path) -> None:
    """The settings can be printed without showing a password."""
    text = "basic_auth: {username: alice, password: hunter2}"
    assert SECRET not in repr(settings(directory, text).read())


def test_a_secret_in_a_pipe_that_nothing_comes_from_is_not_waited_for(tmp_path: Path) -> None:
    """A secret is read at each request, so a pipe gets less time than one that is read once."""
    os.mkfifo(tmp_path / "pipe")
    with open_pipe(tmp_path / "pipe"), pytest.raises(OSError, match=r"within 0\.5 s"):
        Secret(path=str(tmp_path / "pipe")).read()


def test_files_are_read_again_when_they_change(directory: Path) -> None:
    """A secret is read at every request; the configuration when it has changed."""
    source = settings(directory, "authorization: {credentials_file: secret}")
    assert source.read().authorization() == "Bearer hunter2"
    (directory / "secret").write_text("other")
    assert source.read().authorization() == "Bearer other"
    (directory / "source.yml").write_text("basic_auth: {username: alice}")
    assert source.read().authorization().startswith("Basic ")
    (directory / "source.yml").write_text("basic_auth: [")
    with pytest.raises(SourceConfigError, match="not YAML"):
        source.read()


def test_tls(directory: Path) -> None:
    """The fields of TLS become a context, which is made again when a file has changed."""
    text = (
        "tls_config: {ca_file: ca.pem, cert_file: cert.pem, key_file: key.pem, min_version: TLS13}"
    )
    source = settings(directory, text)
    context = source.tls_context()
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert [each["subject"] for each in context.get_ca_certs()]
    assert source.tls_context() is context
    trustme.CA().cert_pem.write_to_path(directory / "ca.pem")
    assert source.tls_context() is not context


def test_tls_without_verification(directory: Path) -> None:
    """The operator may turn the verification off."""
    context = settings(directory, "tls_config: {insecure_skip_verify: true}").tls_context()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)


@pytest.mark.parametrize(
    "fields",
    [
        {"ca_file": "secret"},
        {"ca_file": "no"},
        {"ca": "hunter2"},
        {"cert_file": "secret", "key_file": "key.pem"},
    ],
)
def test_files_that_tls_cannot_use(directory: Path, fields: dict[str, Any]) -> None:
    """A file that is missing or not PEM is an error at the request, which may succeed later."""
    source = settings(directory, f"tls_config: {fields}")
    with pytest.raises(SourceConfigError) as caught:
        source.tls_context()
    assert SECRET not in str(caught.value)
