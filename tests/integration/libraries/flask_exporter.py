"""Flask with prometheus_flask_exporter."""

from __future__ import annotations

from flask import Flask
from prometheus_flask_exporter.multiprocess import GunicornInternalPrometheusMetrics

from tests.integration.libraries import common

application = Flask(__name__)
GunicornInternalPrometheusMetrics(application)
application.get("/")(common.greet)
