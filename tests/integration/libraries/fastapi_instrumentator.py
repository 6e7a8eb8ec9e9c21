"""FastAPI with prometheus-fastapi-instrumentator."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from prometheus_fastapi_instrumentator import Instrumentator

from tests.integration.libraries import common

application = FastAPI()
Instrumentator().instrument(application).expose(application)
application.get("/", response_class=PlainTextResponse)(common.greet)
