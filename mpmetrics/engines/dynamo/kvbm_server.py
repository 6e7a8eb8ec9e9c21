"""The HTTP server of KVBM's metrics, configured by Dynamo's variables."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from mpmetrics._log_limit import get_log
from mpmetrics.errors import ListenError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mpmetrics.engines.dynamo.kvbm import KvbmMetrics
    from mpmetrics.web import PageServer

DEFAULT_PORT: Final = 6880

_log = get_log()


def kvbm_port(variables: Mapping[str, str] = os.environ) -> int | None:
    """Return the port that Dynamo's *variables* ask for, None if they do not ask for a page.

    `DYN_KVBM_METRICS` switches the page on. `DYN_KVBM_METRICS_PORT` is the port; 6880 if it is not
    a valid one.
    """
    if variables.get("DYN_KVBM_METRICS", "").lower() not in ("1", "true", "yes", "on"):
        return None
    text = variables.get("DYN_KVBM_METRICS_PORT", "")
    # Python refuses to read a number of thousands of digits.
    is_port = text.isdecimal() and len(text) <= len("65535") and int(text) < 1 << 16
    return int(text) if is_port else DEFAULT_PORT


def serve_kvbm(
    metrics: KvbmMetrics, host: str = "127.0.0.1", port: int = DEFAULT_PORT
) -> PageServer:
    """Serve a page of *metrics*; if the *port* is taken, use a free one.

    Upstream crashes if the port is taken. Returns the server: `address` is its URL, `stop` ends
    it. Raises `ListenError` when there is no port to listen on, and `MissingExtraError`.
    """
    from mpmetrics.pages import Page
    from mpmetrics.web import PageServer

    page = Page(metrics)
    try:
        server = PageServer(page, f"{host}:{port}")
    except ListenError as error:
        server = PageServer(page, f"{host}:0")
        _log.warning("%s; KVBM's metrics are at %s instead", error, server.address)
    server.start()
    return server
