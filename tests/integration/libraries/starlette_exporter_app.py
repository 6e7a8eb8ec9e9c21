"""Starlette with starlette_exporter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette_exporter import PrometheusMiddleware, handle_metrics

from tests.integration.libraries import common

if TYPE_CHECKING:
    from starlette.requests import Request


def greet(_: Request) -> PlainTextResponse:
    """Greet."""
    return PlainTextResponse(common.greet())


application = Starlette(
    routes=[Route("/", greet), Route("/metrics", handle_metrics)],
    middleware=[Middleware(PrometheusMiddleware)],
)
