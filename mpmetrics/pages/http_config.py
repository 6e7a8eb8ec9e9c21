"""How another exporter's page is asked for: passwords, tokens, TLS, redirections, limits.

The fields are those of Prometheus' `http_config`
(https://prometheus.io/docs/prometheus/latest/configuration/configuration/#http_config), and
`sample_limit` of its `scrape_config`. A field that is not supported is an error: the operator
relies on it. Secrets are read from their files at every request, and the configuration file and the
files of TLS are read again when they have changed.
"""

from __future__ import annotations

import base64
import os
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mpmetrics._config_fields import FieldError, Section, load_yaml, require_mapping
from mpmetrics._opening import open_regular, read_named_file
from mpmetrics.errors import SourceConfigError

if TYPE_CHECKING:
    from typing import TypeAlias

    HttpConfigLike: TypeAlias = Mapping[str, Any] | str | os.PathLike[str] | None

_KNOWN: Final = frozenset(
    {
        *("basic_auth", "authorization", "tls_config", "follow_redirects", "redirect_hosts"),
        *("enable_http2", "sample_limit", "bearer_token", "bearer_token_file"),
    }
)
_BASIC: Final = frozenset({"username", "username_file", "password", "password_file"})
_AUTHORIZATION: Final = frozenset({"type", "credentials", "credentials_file"})
_TLS: Final = frozenset(
    {
        *("ca", "ca_file", "cert_file", "key_file", "server_name", "insecure_skip_verify"),
        *("min_version", "max_version"),
    }
)
_VERSIONS: Final[Mapping[str, ssl.TLSVersion]] = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
_NO_SAMPLE_LIMIT: Final = 0
_PATIENCE: Final = 0.5
"""Seconds in which a secret that is in a pipe has to come: each request of a page waits for it."""

Signature = tuple[tuple[int, int, int], ...]


class Secret:
    """A *text* that no message shows, or the file at *path* that has it."""

    def __init__(self, text: str = "", path: str = "") -> None:
        """Take the text or the path; without either the text is empty."""
        self._text = text
        self._path = path

    def __repr__(self) -> str:
        """Return that there is a secret."""
        return "Secret()"

    def read(self) -> str:
        """Return the text, without the blanks around that of a file. Raises `OSError`.

        Raises `FieldError` for a file whose content no header can have.
        """
        if not self._path:
            return self._text
        try:
            text = read_named_file(self._path, patience=_PATIENCE).decode().strip()
        except UnicodeError:
            text = "\0"
        if not text.isprintable():
            message = f"{self._path}: it is not one line of text"
            raise FieldError(message)
        return text


class TlsConfig(NamedTuple):
    """How the server is verified, and how it verifies us: paths of PEM files, and names."""

    ca: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""
    insecure_skip_verify: bool = False
    min_version: str = ""
    max_version: str = ""

    def files(self) -> list[str]:
        """Return the paths of the files."""
        return [path for path in (self.ca_file, self.cert_file, self.key_file) if path]

    def context(self) -> ssl.SSLContext:
        """Make a context of the files as they are now. Raises `FieldError`, or `OSError`."""
        for path in self.files():
            os.close(open_regular(path))  # OpenSSL would wait for a named pipe
        try:
            context = ssl.create_default_context(
                cafile=self.ca_file or None, cadata=self.ca or None
            )
            if self.cert_file:
                # OpenSSL must not ask for a passphrase at the terminal.
                context.load_cert_chain(self.cert_file, self.key_file or None, password="")
        except ssl.SSLError as error:
            message = f"tls_config: {error.reason or 'a file is not PEM'}"
            raise FieldError(message) from error
        if self.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.min_version:
            context.minimum_version = _VERSIONS[self.min_version]
        if self.max_version:
            context.maximum_version = _VERSIONS[self.max_version]
        return context


class HttpConfig(NamedTuple):
    """The settings for the requests of one source.

    With *user*, it and *password* are sent; with *credentials*, they are sent behind *scheme*.
    *redirect_hosts* are other hosts that a redirection may lead to, with or without a port.
    *sample_limit* is 0 for the default.
    """

    user: Secret | None = None
    password: Secret = Secret()
    scheme: str = "Bearer"
    credentials: Secret | None = None
    tls: TlsConfig = TlsConfig()
    follow_redirects: bool = True
    redirect_hosts: frozenset[str] = frozenset()
    sample_limit: int = _NO_SAMPLE_LIMIT

    def authorization(self) -> str:
        """Return the value of the header `Authorization`, "" for none.

        Raises `OSError` or `FieldError` for a file that cannot be read or used.
        """
        if self.user is not None:
            pair = f"{self.user.read()}:{self.password.read()}"
            return f"Basic {base64.b64encode(pair.encode()).decode()}"
        if self.credentials is not None:
            text = self.credentials.read()
            if not text.isascii():
                message = "authorization: credentials: are not ASCII"
                raise FieldError(message)
            return f"{self.scheme} {text}"
        return ""


class HttpSettings:
    """The settings of one source, which follow their files."""

    def __init__(self, given: HttpConfigLike) -> None:
        """Take the path of a YAML file, its fields as a mapping, or None for the defaults.

        Raises `SourceConfigError` for whatever is wrong with them now.
        """
        self._path = os.fspath(given) if isinstance(given, str | os.PathLike) else ""
        self._config = HttpConfig()
        self._signature: Signature = ()
        self._context: tuple[TlsConfig, Signature, ssl.SSLContext] | None = None
        if isinstance(given, Mapping):
            try:
                self._config = parse_http_config(given)
            except FieldError as error:
                message = "the configuration of a source"
                raise SourceConfigError(message, str(error)) from None
        self.read()

    def read(self) -> HttpConfig:
        """Return the settings as their file is now. Raises `SourceConfigError`."""
        if self._path:
            try:
                signature = _signature([self._path])
                if signature != self._signature:
                    base = os.path.dirname(self._path)
                    fields = require_mapping("the file", load_yaml(self._path))
                    self._config = parse_http_config(fields, base)
                    self._signature = signature
            except (FieldError, OSError, UnicodeError) as error:
                raise SourceConfigError(self._path, str(error)) from None
        return self._config

    def tls_context(self) -> ssl.SSLContext:
        """Return the context of TLS for the files as they are now. Raises as `read` does."""
        tls = self.read().tls
        try:
            signature = _signature(tls.files())
            known = self._context
            if known is None or known[:2] != (tls, signature):
                known = self._context = (tls, signature, tls.context())
        except (FieldError, OSError, ValueError) as error:
            raise SourceConfigError(self._path or "tls_config", str(error)) from None
        return known[2]


def parse_http_config(fields: Mapping[str, Any], base: str = "") -> HttpConfig:
    """Return the settings in *fields*; paths are relative to *base*. Raises `FieldError`."""
    section = Section("http_config", require_mapping("http_config", fields), _KNOWN)
    section.flag("enable_http2", default=False)  # whatever it says, HTTP/1.1 is spoken
    basic = _section(fields, "basic_auth", _BASIC)
    other = _section(fields, "authorization", _AUTHORIZATION)
    has_token = bool(section.text("bearer_token") or section.text("bearer_token_file"))
    if bool(basic) + bool(other) + has_token > 1:
        message = "at most one of basic_auth, authorization and bearer_token is possible"
        raise FieldError(message)
    scheme = other.text("type").strip() or "Bearer"
    if not (scheme.isascii() and scheme.isalnum()) or scheme.lower() == "basic":
        other.refuse("type", "is not supported; for Basic use basic_auth")
    credentials = _secret(other, "credentials", base) if other else None
    if has_token:  # how Prometheus spelled it before it had `authorization`
        credentials = _secret(section, "bearer_token", base)
    return HttpConfig(
        user=_secret(basic, "username", base) if basic else None,
        password=_secret(basic, "password", base),
        scheme=scheme,
        credentials=credentials,
        tls=_parse_tls(_section(fields, "tls_config", _TLS), base),
        follow_redirects=section.flag("follow_redirects", default=True),
        redirect_hosts=frozenset(each.lower() for each in section.texts("redirect_hosts")),
        sample_limit=section.count("sample_limit", _NO_SAMPLE_LIMIT)
        if fields.get("sample_limit")
        else _NO_SAMPLE_LIMIT,
    )


def _section(fields: Mapping[str, Any], name: str, known: frozenset[str]) -> Section:
    return Section(name, require_mapping(name, fields.get(name)), known)


def _secret(section: Section, name: str, base: str) -> Secret:
    """Return the secret *name*, which is text in the section or in a file of its own."""
    text, path = section.text(name), section.text(f"{name}_file")
    if text and path:
        section.refuse(name, f"at most one of {name} and {name}_file is possible")
    if not text.isprintable():
        section.refuse(name, "is not one line of text")
    return Secret(text, os.path.join(base, path) if path else "")


def _parse_tls(section: Section, base: str) -> TlsConfig:
    """Parse `tls_config`."""
    paths = {
        name: os.path.join(base, section.text(name)) if section.text(name) else ""
        for name in ("ca_file", "cert_file", "key_file")
    }
    if paths["ca_file"] and section.text("ca"):
        section.refuse("ca", "at most one of ca and ca_file is possible")
    if bool(paths["cert_file"]) != bool(paths["key_file"]):
        section.refuse("cert_file", "cert_file and key_file need each other")
    versions = {
        name: section.choice(name, _VERSIONS, "TLS12") if section.text(name) else ""
        for name in ("min_version", "max_version")
    }
    return TlsConfig(
        ca=section.text("ca"),
        server_name=section.text("server_name"),
        insecure_skip_verify=section.flag("insecure_skip_verify", default=False),
        **paths,
        **versions,
    )


def _signature(paths: list[str]) -> Signature:
    """Return what changes when one of the files changes. Raises `OSError`."""
    states = [os.stat(path) for path in paths]
    return tuple((each.st_ino, each.st_size, each.st_mtime_ns) for each in states)
