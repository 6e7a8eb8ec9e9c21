"""Programs that put a page into applications of frameworks, for type checkers: see `api.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI
from flask import Flask
from starlette.applications import Starlette
from starlette.routing import Mount
from werkzeug.middleware.dispatcher import DispatcherMiddleware

import mpmetrics

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from asgiref.typing import ASGI3Application
    from starlette.types import ASGIApp


def mount_in_fastapi() -> FastAPI:
    app = FastAPI()
    app.mount("/metrics", mpmetrics.make_asgi_app(mpmetrics.register()))
    return app


def mount_in_starlette() -> Starlette:
    return Starlette(routes=[Mount("/metrics", mpmetrics.make_asgi_app("/run/metrics"))])


def dispatch_in_flask() -> DispatcherMiddleware:
    app = Flask(__name__)
    return DispatcherMiddleware(app, {"/metrics": mpmetrics.make_wsgi_app(mpmetrics.register())})


def name_the_types() -> None:
    for_starlette: ASGIApp = mpmetrics.make_asgi_app("/run/metrics")
    for_asgiref: ASGI3Application = mpmetrics.make_asgi_app("/run/metrics")
    for_wsgi: WSGIApplication = mpmetrics.make_wsgi_app("/run/metrics")
    print(for_starlette, for_asgiref, for_wsgi)
