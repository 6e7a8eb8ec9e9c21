"""The web configuration file that Prometheus and its exporters share: TLS, users, headers.

The format is that of the exporter toolkit
(https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md). A field
that is not known, or that Python's TLS cannot honour, is an error: somebody relies on it.
"""

from __future__ import annotations

import os
import re
import ssl
import tempfile
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from mpmetrics.errors import MissingExtraError, WebConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_VERSIONS: Final[Mapping[str, ssl.TLSVersion]] = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}

# Go's other two types ask for a certificate and do not verify it: OpenSSL cannot do that.
_CLIENT_AUTH: Final[Mapping[str, ssl.VerifyMode]] = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}

# Go's names (https://pkg.go.dev/crypto/tls#pkg-constants), and OpenSSL's.
_CIPHERS: Final[Mapping[str, str]] = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
}

# All of these are always allowed with TLS 1.3: naming them changes nothing.
_TLS13_CIPHERS: Final = frozenset(
    {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
)

_CURVES: Final[Mapping[str, str]] = {
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}

_HEADERS: Final = frozenset(
    {
        "Content-Security-Policy",
        "Strict-Transport-Security",
        "X-Content-Type-Options",
        "X-Frame-Options",
        "X-XSS-Protection",
    }
)

# Algorithm, cost from 4 to 31, salt and hash; what differs could be compared with no password.
_BCRYPT: Final = re.compile(r"\$2[aby]\$(?:0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")


class WebConfig(NamedTuple):
    """What the file asks for.

    *tls* is None for plain HTTP. Of the names in a client's certificate one has to be among
    *allowed_sans*, if there are any. *users* are bcrypt hashes by user name, *headers* are sent
    with every response.
    """

    tls: ssl.SSLContext | None = None
    allowed_sans: frozenset[str] = frozenset()
    users: Mapping[str, bytes] = {}
    headers: Sequence[tuple[str, str]] = ()

    @property
    def is_guarded(self) -> bool:
        """Whether nobody gets in without a password or a certificate."""
        required = self.tls is not None and self.tls.verify_mode is ssl.CERT_REQUIRED
        return bool(self.users) or required


def read_web_config(path: str | os.PathLike[str]) -> WebConfig:
    """Read the file *path*; paths in it are relative to its directory.

    Raises `WebConfigError` for whatever is wrong with it, with the name of the field.
    """
    name = os.fspath(path)
    try:
        return _parse(_load(name), os.path.dirname(name))
    except (_FieldError, OSError, UnicodeError) as error:
        raise WebConfigError(name, str(error)) from error


class _FieldError(Exception):
    """What is wrong with a field, in words."""


def _load(path: str) -> object:
    """Return what the YAML file *path* says."""
    try:
        import yaml  # only who has such a file needs it
    except ImportError as error:
        raise MissingExtraError(package="pyyaml", extra="serve") from error
    with open(path, "rb") as file:
        try:
            return yaml.safe_load(file)
        except yaml.YAMLError as error:
            message = f"it is not YAML: {' '.join(str(error).split())}"
            raise _FieldError(message) from error


def _parse(document: object, base: str) -> WebConfig:
    """Return what the *document* asks for; its paths are relative to *base*."""
    fields: dict[str, Any] = {}
    for section, value in _mapping("the file", document).items():
        parse = _SECTIONS.get(section)
        if parse is None:
            message = f"{section!r} is not supported"
            raise _FieldError(message)
        fields |= parse(_mapping(section, value), base)
    return WebConfig(**fields)


def _mapping(name: str, value: object) -> Mapping[str, Any]:
    """Return *value*, if it is a mapping with text for keys; nothing at all is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        message = f"{name} is not a mapping"
        raise _FieldError(message)
    return value


def _users(fields: Mapping[str, Any], _: str) -> Mapping[str, Any]:
    """Return what `basic_auth_users` says."""
    users = {}
    for user, hashed in fields.items():
        if not (isinstance(hashed, str) and _BCRYPT.fullmatch(hashed)):
            message = f"basic_auth_users: the password of {user!r} is not a bcrypt hash"
            raise _FieldError(message)
        users[user] = hashed.encode()
    if users:
        try:
            import bcrypt  # noqa: F401 - only who has users needs it
        except ImportError as error:
            raise MissingExtraError(package="bcrypt", extra="serve") from error
    return {"users": users}


def _http(fields: Mapping[str, Any], _: str) -> Mapping[str, Any]:
    """Return what `http_server_config` says. HTTP/2 may be allowed, it is never spoken here."""
    _refuse_unknown("http_server_config", fields, {"http2", "headers"})
    headers = []
    for name, value in _mapping("headers", fields.get("headers")).items():
        if name not in _HEADERS:
            message = f"http_server_config: the header {name!r} is not supported"
            raise _FieldError(message)
        if not (isinstance(value, str) and value.isascii() and value.isprintable()):
            message = f"http_server_config: the header {name!r} has an impossible value"
            raise _FieldError(message)
        if value:
            headers.append((name, value))
    return {"headers": tuple(headers)}


def _refuse_unknown(section: str, fields: Mapping[str, Any], known: set[str]) -> None:
    """Raise for a field that is not *known*."""
    unknown = sorted(fields.keys() - known)
    if unknown:
        message = f"{section}: {unknown[0]!r} is not supported"
        raise _FieldError(message)


class _Tls:
    """The section `tls_server_config`, as fields to ask for; each is checked when asked for."""

    _KNOWN: Final = frozenset(
        {
            *("cert", "cert_file", "key", "key_file", "client_ca", "client_ca_file"),
            *("client_auth_type", "client_allowed_sans", "min_version", "max_version"),
            *("cipher_suites", "prefer_server_cipher_suites", "curve_preferences"),
        }
    )

    def __init__(self, fields: Mapping[str, Any], base: str) -> None:
        _refuse_unknown("tls_server_config", fields, set(self._KNOWN))
        self._fields = {name: value for name, value in fields.items() if value is not None}
        self._base = base

    def config(self) -> Mapping[str, Any]:
        """Return the section's part of the configuration."""
        if not self._fields:
            return {}
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._load_certificate(context)
        self._set_versions(context)
        self._set_ciphers(context)
        self._set_curves(context)
        self._set_clients(context)
        sans = frozenset(self._texts("client_allowed_sans"))
        if sans and context.verify_mode is not ssl.CERT_REQUIRED:
            self._refuse("client_allowed_sans", "needs RequireAndVerifyClientCert")
        return {"tls": context, "allowed_sans": sans}

    def _load_certificate(self, context: ssl.SSLContext) -> None:
        """Load certificate and key, each from a file or from the text of the field."""
        with tempfile.TemporaryDirectory(prefix="mpmetrics-") as directory:
            # OpenSSL reads them from files only, as far as Python lets it.
            paths = []
            for name in "cert", "key":
                path = self._path(f"{name}_file")
                text = self._text(name)
                if bool(path) == bool(text):
                    self._refuse(name, f"exactly one of {name} and {name}_file is needed")
                if text:
                    path = os.path.join(directory, name)
                    with open(path, "w", opener=_private, encoding="utf-8") as file:
                        file.write(text)
                paths.append(path)
            for name, path in zip(("cert", "key"), paths, strict=True):
                self._check_readable(name, path)
            try:
                # An answer to the question for a passphrase: without one OpenSSL would ask.
                certificate, key = paths
                context.load_cert_chain(certificate, key, password="")
            except (ssl.SSLError, ValueError) as error:
                self._refuse("cert and key", _reason(error))

    def _check_readable(self, name: str, path: str) -> None:
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            self._refuse(name, f"{path}: {error.strerror}")

    def _set_versions(self, context: ssl.SSLContext) -> None:
        context.minimum_version = _VERSIONS[self._choice("min_version", _VERSIONS, "TLS12")]
        context.maximum_version = _VERSIONS[self._choice("max_version", _VERSIONS, "TLS13")]
        if context.minimum_version > context.maximum_version:
            self._refuse("min_version", "is higher than max_version")

    def _set_ciphers(self, context: ssl.SSLContext) -> None:
        suites = [suite for suite in self._texts("cipher_suites") if suite not in _TLS13_CIPHERS]
        unknown = [suite for suite in suites if suite not in _CIPHERS]
        if unknown:
            self._refuse("cipher_suites", f"{unknown[0]!r} is not supported")
        if suites:
            try:
                context.set_ciphers(":".join(_CIPHERS[suite] for suite in suites))
            except ssl.SSLError as error:
                self._refuse("cipher_suites", _reason(error))
        if self._flag("prefer_server_cipher_suites", default=True):
            context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
        else:
            context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE

    def _set_curves(self, context: ssl.SSLContext) -> None:
        curves = self._texts("curve_preferences")
        if len(curves) > 1:
            self._refuse("curve_preferences", "more than one curve is not supported")
        for curve in curves:
            if curve not in _CURVES:
                self._refuse("curve_preferences", f"{curve!r} is not supported")
            context.set_ecdh_curve(_CURVES[curve])

    def _set_clients(self, context: ssl.SSLContext) -> None:
        context.verify_mode = _CLIENT_AUTH[
            self._choice("client_auth_type", _CLIENT_AUTH, "NoClientCert")
        ]
        path, text = self._path("client_ca_file"), self._text("client_ca")
        if path and text:
            self._refuse("client_ca", "at most one of client_ca and client_ca_file is needed")
        if context.verify_mode is not ssl.CERT_NONE and not (path or text):
            self._refuse("client_auth_type", "needs client_ca_file")
        if path or text:
            if path:
                self._check_readable("client_ca_file", path)
            try:
                context.load_verify_locations(path or None, cadata=text or None)
            except (ssl.SSLError, ValueError) as error:
                self._refuse("client_ca", _reason(error))

    # -- fields -----------------------------------------------------------------------------

    def _text(self, name: str) -> str:
        value = self._fields.get(name, "")
        if not isinstance(value, str):
            self._refuse(name, "is not text")
        return value

    def _path(self, name: str) -> str:
        text = self._text(name)
        return os.path.join(self._base, text) if text else ""

    def _texts(self, name: str) -> Sequence[str]:
        value = self._fields.get(name, [])
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            self._refuse(name, "is not a list of texts")
        return value

    def _flag(self, name: str, *, default: bool) -> bool:
        value = self._fields.get(name, default)
        if not isinstance(value, bool):
            self._refuse(name, "is neither true nor false")
        return value

    def _choice(self, name: str, choices: Mapping[str, object], default: str) -> str:
        text = self._text(name) or default
        if text not in choices:
            self._refuse(name, f"{text!r} is not supported; use one of {', '.join(choices)}")
        return text

    def _refuse(self, name: str, why: str) -> NoReturn:
        message = f"tls_server_config: {name}: {why}"
        raise _FieldError(message)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _reason(error: Exception) -> str:
    """Return what OpenSSL says, without the place in its source."""
    reason = getattr(error, "reason", None)
    return str(reason or error)


_SECTIONS: Final[Mapping[str, Callable[[Mapping[str, Any], str], Mapping[str, Any]]]] = {
    "tls_server_config": lambda fields, base: _Tls(fields, base).config(),
    "http_server_config": _http,
    "basic_auth_users": _users,
}
"""What each section of the file says, as fields of `WebConfig`."""
