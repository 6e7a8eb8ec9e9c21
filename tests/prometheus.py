"""A real Prometheus server for tests."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from tests.servers import LOOPBACK, eventually, fetch, free_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Prometheus:
    """A running Prometheus server."""

    def __init__(self, port: int) -> None:
        """Talk to the server on *port* of this machine."""
        self._url = f"http://{LOOPBACK}:{port}"

    def is_ready(self) -> bool:
        """Return whether it answers queries."""
        try:
            return fetch(f"{self._url}/-/ready").status == 200
        except OSError:
            return False

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the data that the API has at *path*."""
        response = fetch(f"{self._url}/api/v1/{path}?{urlencode(parameters)}")
        answer = json.loads(response.body)
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str, job: str) -> dict[str, str]:
        """Return the values that an expression has now for a *job*, by labels and name."""
        query = expression.replace("@", f'{{job="{job}"}}')
        series: list[dict[str, Any]] = self.ask("query", query=query)["result"]
        return {labels_of(each["metric"]): each["value"][1] for each in series}


def labels_of(metric: dict[str, str]) -> str:
    """Return the labels of a series without those that Prometheus adds for its target."""
    scraped = ("instance", "job")
    pairs = [f"{key}={value}" for key, value in sorted(metric.items()) if key not in scraped]
    return " ".join(pairs)


@contextmanager
def prometheus(program: str, directory: Path, configuration: str) -> Iterator[Prometheus]:
    """Run a Prometheus server that keeps its data in *directory*; yield it when it is ready."""
    (directory / "prometheus.yml").write_text(configuration)
    port = free_port()
    options = [
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={LOOPBACK}:{port}",
        "--log.level=warn",
    ]
    with running([program, *options]):
        server = Prometheus(port)
        eventually(server.is_ready, "Prometheus is ready")
        yield server
