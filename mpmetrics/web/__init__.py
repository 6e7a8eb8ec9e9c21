"""A page over HTTP: applications, and a server with limits, passwords and TLS.

`apps` answers requests, and sends pages by `outgoing`. `server` runs an application in a thread: on
a socket of `sockets`, and by `uvicorn_server` within `limits`. `auth` asks for passwords, which
`users` compares in the turns of `password_queue`. `connections` decides which one is closed for
another, by `networks` that are `recent`. `web_config` reads the configuration file, by
`config_fields` and `tls`. `extra` checks that optional packages are installed.

The names are loaded on first use: the server needs the extra `serve`, the applications do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpmetrics._lazy import lazy_exports

if TYPE_CHECKING:
    from mpmetrics.web.apps import make_asgi_app, make_wsgi_app
    from mpmetrics.web.server import PageServer
    from mpmetrics.web.sockets import DEFAULT_LISTEN
    from mpmetrics.web.web_config import WebConfig, read_web_config

_MODULES = {
    "apps": ["make_asgi_app", "make_wsgi_app"],
    "server": ["PageServer"],
    "sockets": ["DEFAULT_LISTEN"],
    "web_config": ["WebConfig", "read_web_config"],
}

__all__ = [
    "DEFAULT_LISTEN",
    "PageServer",
    "WebConfig",
    "make_asgi_app",
    "make_wsgi_app",
    "read_web_config",
]

if not TYPE_CHECKING:  # or every name would pass for one of this module's
    __getattr__, __dir__ = lazy_exports(__name__, _MODULES, globals())
