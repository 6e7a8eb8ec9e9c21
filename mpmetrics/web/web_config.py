"""The web configuration file that Prometheus and its exporters share: TLS, users, headers.

The format is that of the exporter toolkit
(https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md). An
unknown field, or one that Python's TLS cannot honour, is an error: the operator relies on it.
"""

from __future__ import annotations

import os
import re
import ssl
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mpmetrics._config_fields import FieldError, load_yaml, refuse_unknown, require_mapping
from mpmetrics._extra import require_module
from mpmetrics.errors import WebConfigError
from mpmetrics.web.tls import TlsSection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_HEADERS: Final = frozenset(
    {
        "Content-Security-Policy",
        "Strict-Transport-Security",
        "X-Content-Type-Options",
        "X-Frame-Options",
        "X-XSS-Protection",
    }
)

# Algorithm, cost from 4 to 31, salt and hash. No password matches a text of another form. The last
# letter of the salt has two bits: bcrypt raises an exception for a letter that has more.
_BCRYPT: Final = re.compile(
    r"\$2[aby]\$(?:0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}"
)

_HIGHEST_COST: Final = 20
"""The highest cost of a hash: each step doubles the time, and with 20 it is about a minute."""


class WebConfig(NamedTuple):
    """The settings of a web configuration file.

    *tls* is None for plain HTTP. A client's certificate needs one of the names in
    *allowed_sans*, if there are any. *users* are bcrypt hashes by user name, *headers* are sent
    with every response.
    """

    tls: ssl.SSLContext | None = None
    allowed_sans: frozenset[str] = frozenset()
    users: Mapping[str, bytes] = {}
    headers: Sequence[tuple[str, str]] = ()

    @property
    def requires_credentials(self) -> bool:
        """Whether every client needs a password or a certificate."""
        required = self.tls is not None and self.tls.verify_mode is ssl.CERT_REQUIRED
        return bool(self.users) or required


def read_web_config(path: str | os.PathLike[str]) -> WebConfig:
    """Read the file *path*; paths in it are relative to its directory.

    Raises `WebConfigError` for whatever is wrong with it, with the name of the field.
    """
    name = os.fspath(path)
    try:
        return _parse_document(load_yaml(name), os.path.dirname(name))
    except (FieldError, OSError, UnicodeError) as error:
        raise WebConfigError(name, str(error)) from error


def _parse_document(document: object, base: str) -> WebConfig:
    """Return the settings in a *document*; its paths are relative to *base*."""
    settings: dict[str, Any] = {}
    for section, value in require_mapping("the file", document).items():
        parse = _SECTIONS.get(section)
        if parse is None:
            message = f"{section!r} is not supported"
            raise FieldError(message)
        settings |= parse(require_mapping(section, value), base)
    return WebConfig(**settings)


def _parse_tls(fields: Mapping[str, Any], base: str) -> Mapping[str, Any]:
    """Parse `tls_server_config`."""
    context, sans = TlsSection(fields, base).parse()
    return {"tls": context, "allowed_sans": sans}


def _parse_http(fields: Mapping[str, Any], _: str) -> Mapping[str, Any]:
    """Parse `http_server_config`. It may allow HTTP/2, which this server never speaks."""
    refuse_unknown("http_server_config", fields, frozenset({"http2", "headers"}))
    headers = []
    for name, value in require_mapping("headers", fields.get("headers")).items():
        if name not in _HEADERS:
            message = f"http_server_config: the header {name!r} is not supported"
            raise FieldError(message)
        if not (isinstance(value, str) and value.isascii() and value.isprintable()):
            message = f"http_server_config: the header {name!r} has an impossible value"
            raise FieldError(message)
        if value:
            headers.append((name, value))
    return {"headers": tuple(headers)}


def _parse_users(fields: Mapping[str, Any], _: str) -> Mapping[str, Any]:
    """Parse `basic_auth_users`."""
    users = {}
    for user, hashed in fields.items():
        if not (isinstance(hashed, str) and _BCRYPT.fullmatch(hashed)):
            message = f"basic_auth_users: the password of {user!r} is not a bcrypt hash"
            raise FieldError(message)
        if int(hashed[4:6]) > _HIGHEST_COST:
            message = (
                f"basic_auth_users: the hash of {user!r} has cost {hashed[4:6]}, with which each "
                f"login takes minutes; at most {_HIGHEST_COST} is possible"
            )
            raise FieldError(message)
        users[user] = hashed.encode()
    if users:
        require_module("bcrypt")
    return {"users": users}


_SECTIONS: Final[Mapping[str, Callable[[Mapping[str, Any], str], Mapping[str, Any]]]] = {
    "tls_server_config": _parse_tls,
    "http_server_config": _parse_http,
    "basic_auth_users": _parse_users,
}
"""The parser of each section; it returns fields of `WebConfig`."""
