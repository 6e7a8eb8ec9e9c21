"""The options and URLs of NATS servers, and nats-py's arguments for them."""

from __future__ import annotations

import os
import ssl
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from mpmetrics._opening import open_regular
from mpmetrics.engines.errors import EventEndpointError, NatsOptionError

_SCHEMES: Final = ("nats", "tls", "ws", "wss")


class NatsOptions(NamedTuple):
    """Options of a connection to a NATS server, in the words of nats-py; empty ones are not used.

    Give one of *user* with *password*, *token*, and *credentials*: a file with a JWT and a key.
    With any option that begins with `tls`, nothing is sent to a server that does not encrypt. With
    *jetstream*, a stream has to keep each message.
    """

    user: str = ""
    password: str = ""
    token: str = ""
    credentials: str = ""
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    tls_hostname: str = ""
    tls_first: bool = False
    jetstream: bool = False

    def __repr__(self) -> str:
        """Return the options that are set, without secrets."""
        shown = {name: value for name, value in self._asdict().items() if value}
        shown.update((name, "...") for name in ("password", "token") if shown.get(name))
        return f"NatsOptions({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @property
    def wants_tls(self) -> bool:
        """Whether the server has to encrypt."""
        return any((self.tls_ca, self.tls_cert, self.tls_hostname, self.tls_first))

    def check(self) -> None:
        """Raise `NatsOptionError` for options that do not go together."""
        ways = [name for name in ("user", "token", "credentials") if getattr(self, name)]
        if len(ways) > 1:
            raise NatsOptionError(ways[1], f"cannot be given beside {ways[0]}")
        for one, other in (("user", "password"), ("password", "user"), ("tls_key", "tls_cert")):
            if getattr(self, one) and not getattr(self, other):
                raise NatsOptionError(one, f"is of no use without {other}")

    def make_context(self) -> ssl.SSLContext:
        """Return the settings for TLS. Raises `NatsOptionError`."""
        for option in "tls_ca", "tls_cert", "tls_key":
            self.check_file(option)
        option = "tls_ca"
        try:
            context = ssl.create_default_context(cafile=self.tls_ca or None)
            option = "tls_cert"
            if self.tls_cert:
                # Without a passphrase OpenSSL would ask for one at the terminal.
                context.load_cert_chain(self.tls_cert, self.tls_key or None, password="")
        except OSError as error:  # also for a file that is not a certificate
            raise NatsOptionError(option, f"{getattr(self, option)}: {error}") from error
        return context

    def check_file(self, option: str) -> None:
        """Raise `NatsOptionError` if the *option* names what is not a file, or cannot be opened.

        OpenSSL and nats-py would wait for a named pipe, which holds up every other sink.
        """
        if path := getattr(self, option):
            try:
                os.close(open_regular(path))
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or str(error)
                raise NatsOptionError(option, f"{path}: {why}") from error


def connect_arguments(options: NatsOptions, *, with_tls: bool) -> dict[str, Any]:
    """Return the arguments of nats-py's `connect`. Raises `NatsOptionError`."""
    names = ("user", "password", "token")
    given: dict[str, Any] = {name: value for name in names if (value := getattr(options, name))}
    if options.credentials:
        options.check_file("credentials")
        given["user_credentials"] = options.credentials
    if with_tls:
        given["tls"] = options.make_context()
        given["tls_handshake_first"] = options.tls_first
        if options.tls_hostname:
            given["tls_hostname"] = options.tls_hostname
    return given


def check_url(url: str) -> str:
    """Return the *url* of a server. Raises `EventEndpointError` if it is not one."""
    try:
        parts = urlsplit(url)
        is_server = parts.scheme in _SCHEMES and parts.hostname and parts.port != 0
    except ValueError:
        is_server = False
    if not is_server:
        shown = url.rpartition("@")[2]  # without the password
        raise EventEndpointError(shown, "it is not of the form nats://HOST:PORT")
    return url
