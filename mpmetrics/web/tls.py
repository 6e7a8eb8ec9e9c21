"""The section `tls_server_config` of a web configuration file, as an `ssl.SSLContext`.

What Python's TLS cannot honour is an error: the operator relies on what the file asks for.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from typing import TYPE_CHECKING, Any, Final

from mpmetrics._config_fields import Section
from mpmetrics._opening import open_regular
from mpmetrics._text import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

_VERSIONS: Final[Mapping[str, ssl.TLSVersion]] = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}

# Go's other two types ask for a certificate without verifying it: OpenSSL cannot do that.
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

_KNOWN: Final = frozenset(
    {
        *("cert", "cert_file", "key", "key_file", "client_ca", "client_ca_file"),
        *("client_auth_type", "client_allowed_sans", "min_version", "max_version"),
        *("cipher_suites", "prefer_server_cipher_suites", "curve_preferences"),
    }
)


class TlsSection(Section):
    """The section `tls_server_config`; each field is checked when it is applied."""

    def __init__(self, fields: Mapping[str, Any], base: str) -> None:
        """Take the *fields*; paths are relative to *base*. Raises `FieldError`."""
        super().__init__("tls_server_config", fields, _KNOWN)
        self._base = base

    def parse(self) -> tuple[ssl.SSLContext | None, frozenset[str]]:
        """Return the context of a server, None without fields, and the names clients may have.

        Raises `FieldError`.
        """
        if not self:
            return None, frozenset()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._load_certificate(context)
        self._set_versions(context)
        self._set_ciphers(context)
        self._set_curves(context)
        self._set_clients(context)
        sans = frozenset(self.texts("client_allowed_sans"))
        if sans and context.verify_mode is not ssl.CERT_REQUIRED:
            self.refuse("client_allowed_sans", "needs RequireAndVerifyClientCert")
        return context, sans

    def _load_certificate(self, context: ssl.SSLContext) -> None:
        """Load certificate and key, each from a file or from the text of the field."""
        with tempfile.TemporaryDirectory(prefix="mpmetrics-") as directory:
            # Python passes nothing but the names of files to OpenSSL.
            paths = []
            for name in "cert", "key":
                path = self._path(f"{name}_file")
                text = self.text(name)
                if bool(path) == bool(text):
                    self.refuse(name, f"exactly one of {name} and {name}_file is needed")
                if text:
                    path = os.path.join(directory, name)
                    with open(path, "w", opener=_open_private, encoding="utf-8") as file:
                        file.write(text)
                paths.append(path)
            for name, path in zip(("cert", "key"), paths, strict=True):
                self._check_readable(name, path)
            try:
                # Without a passphrase OpenSSL would ask for one at the terminal.
                certificate, key = paths
                context.load_cert_chain(certificate, key, password="")
            except (ssl.SSLError, ValueError) as error:
                self.refuse("cert and key", _reason(error))

    def _check_readable(self, name: str, path: str) -> None:
        try:
            os.close(open_regular(path))
        except (OSError, ValueError) as error:  # no path has a NUL
            self.refuse(name, f"{one_line(path)}: {getattr(error, 'strerror', error)}")

    def _set_versions(self, context: ssl.SSLContext) -> None:
        context.minimum_version = _VERSIONS[self.choice("min_version", _VERSIONS, "TLS12")]
        context.maximum_version = _VERSIONS[self.choice("max_version", _VERSIONS, "TLS13")]
        if context.minimum_version > context.maximum_version:
            self.refuse("min_version", "is higher than max_version")

    def _set_ciphers(self, context: ssl.SSLContext) -> None:
        suites = [suite for suite in self.texts("cipher_suites") if suite not in _TLS13_CIPHERS]
        unknown = [suite for suite in suites if suite not in _CIPHERS]
        if unknown:
            self.refuse("cipher_suites", f"{unknown[0]!r} is not supported")
        if suites:
            try:
                context.set_ciphers(":".join(_CIPHERS[suite] for suite in suites))
            except ssl.SSLError as error:
                self.refuse("cipher_suites", _reason(error))
        if self.flag("prefer_server_cipher_suites", default=True):
            context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
        else:
            context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE

    def _set_curves(self, context: ssl.SSLContext) -> None:
        curves = self.texts("curve_preferences")
        if len(curves) > 1:
            self.refuse("curve_preferences", "more than one curve is not supported")
        for curve in curves:
            if curve not in _CURVES:
                self.refuse("curve_preferences", f"{curve!r} is not supported")
            context.set_ecdh_curve(_CURVES[curve])

    def _set_clients(self, context: ssl.SSLContext) -> None:
        context.verify_mode = _CLIENT_AUTH[
            self.choice("client_auth_type", _CLIENT_AUTH, "NoClientCert")
        ]
        path, text = self._path("client_ca_file"), self.text("client_ca")
        if path and text:
            self.refuse("client_ca", "at most one of client_ca and client_ca_file is needed")
        if context.verify_mode is not ssl.CERT_NONE and not (path or text):
            self.refuse("client_auth_type", "needs client_ca_file")
        if path or text:
            if path:
                self._check_readable("client_ca_file", path)
            try:
                context.load_verify_locations(path or None, cadata=text or None)
            except (ssl.SSLError, ValueError) as error:
                self.refuse("client_ca", _reason(error))

    def _path(self, name: str) -> str:
        """Return the path in a field, "" by default."""
        text = self.text(name)
        return os.path.join(self._base, text) if text else ""


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _reason(error: Exception) -> str:
    """Return OpenSSL's reason, without the place in its source."""
    reason = getattr(error, "reason", None)
    return str(reason or error)
