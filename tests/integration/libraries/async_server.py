"""aiohttp with prometheus-async, whose page has one process only, and a page of all of them."""

from __future__ import annotations

import asyncio
import os

from aiohttp import web
from prometheus_async.aio import count_exceptions
from prometheus_async.aio.web import server_stats
from prometheus_client import Counter

import mpmetrics
from tests.integration.libraries import common

FAILURES = Counter("failures", "Greetings that failed")
PAGE = mpmetrics.register().page()


@count_exceptions(FAILURES)
async def greet(_: web.Request) -> web.Response:
    """Greet."""
    return web.Response(text=common.greet())


async def merged(_: web.Request) -> web.Response:
    """Serve the metrics of all processes."""
    body = await asyncio.to_thread(PAGE.render)
    return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4"})


application = web.Application()
application.router.add_get("/", greet)
application.router.add_get(
    "/metrics", merged if "MPMETRICS_INSTALL" in os.environ else server_stats
)
