"""Libraries that serve prometheus_client's metrics from web frameworks, in real servers.

Each serves its page by its own code, once as it is and once with `mpmetrics.install()`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

import mpmetrics
from tests.cli.directories import fill
from tests.conftest import require_package
from tests.database import counter, gauge
from tests.examples.programs import GUNICORN, Server, greet_from_several_workers, serving
from tests.servers import fetch

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = "tests.integration.libraries"

for _name in ("aiohttp", "django_prometheus", "fastapi", "flask", "starlette_exporter"):
    require_package(_name, extra="frameworks, a dependency group")

UVICORN: Final = ("-m", "uvicorn", "--workers", "2", "--fd", "{fd}", "--app-dir", str(ROOT))
TWO_WORKERS: Final = (*GUNICORN, "--workers", "2", "--chdir", str(ROOT))

COLLECTING: Final = {
    "prometheus-fastapi-instrumentator": (*UVICORN, f"{FOLDER}.fastapi_instrumentator:application"),
    "starlette_exporter": (*UVICORN, f"{FOLDER}.starlette_exporter_app:application"),
    "prometheus_flask_exporter": (*TWO_WORKERS, f"{FOLDER}.flask_exporter"),
    "django-prometheus": (*TWO_WORKERS, f"{FOLDER}.django_exporter"),
}
"""The libraries that construct prometheus_client's collector at each scrape, and their servers."""

PROMETHEUS_ASYNC: Final = (
    *TWO_WORKERS,
    "--worker-class",
    "aiohttp.GunicornWebWorker",
    f"{FOLDER}.async_server",
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a directory for what a server writes beside its metrics."""
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return an empty multiprocess directory."""
    path = tmp_path / "metrics"
    path.mkdir()
    return path


def series(server: Server, name: str) -> dict[tuple[str, ...], float]:
    """Return the values of the series *name* on the server's page, by the values of its labels."""
    answer = fetch(f"{server.url}/metrics")
    assert answer.status == 200, answer.body[-2000:]
    return {
        tuple(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
        if sample.name == name
    }


def with_others(directory: Path) -> None:
    """Add what other writers leave in a directory: ids with an underscore, and a label `pid`."""
    fill(
        directory,
        {
            "gauge_all_worker_1.db": gauge("busy", 1),
            "gauge_all_worker_2.db": gauge("busy", 2),
            "gauge_sum_other.db": gauge("jobs", 3, {"pid": "of a job"}),
        },
    )


@pytest.mark.parametrize("library", COLLECTING)
def test_a_page_of_a_library_as_it_is(library: str, directory: Path, home: Path) -> None:
    """Without `install`, ids are cut at an underscore, and a cut file costs the whole page."""
    with serving(*COLLECTING[library], directory=directory, home=home) as server:
        sent = greet_from_several_workers(server, directory)
        with_others(directory)
        assert series(server, "greetings_total") == {(): sent}
        assert set(series(server, "busy")) == {("wor",)}
        fill(directory, {"counter_999999.db": b"\1"})
        assert fetch(f"{server.url}/metrics").status == 500


@pytest.mark.parametrize("library", COLLECTING)
def test_a_page_of_a_library_with_mpmetrics_installed(
    library: str, directory: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `install`, the library's own page tells ids apart, and has all that can be read.

    A worker's counts stay when its file is folded, and its gauges of mode `all` end with it.
    """
    monkeypatch.setenv("MPMETRICS_INSTALL", "1")
    with serving(*COLLECTING[library], directory=directory, home=home) as server:
        sent = greet_from_several_workers(server, directory)
        with_others(directory)
        fill(directory, {"counter_999999.db": b"\1", "counter_1.db": counter("greetings", 1000)})
        for _ in range(3):
            assert series(server, "greetings_total") == {(): sent + 1000}
        assert series(server, "busy") == {("worker_1",): 1.0, ("worker_2",): 2.0}
        assert series(server, "jobs") == {("of a job",): 3.0}
        mpmetrics.compact(directory)
        assert series(server, "greetings_total") == {(): sent + 1000}
        assert series(server, "busy") == {}
    assert server.log.count("counter_999999.db") <= 2  # each worker reports it once


def test_prometheus_async_counts_for_a_page_of_all_processes(
    directory: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page of prometheus-async has one process; a page beside it has what all counted."""
    with serving(*PROMETHEUS_ASYNC, directory=directory, home=home) as server:
        sent = greet_from_several_workers(server, directory)
        assert series(server, "greetings_total")[()] < sent
    monkeypatch.setenv("MPMETRICS_INSTALL", "1")
    with serving(*PROMETHEUS_ASYNC, directory=directory, home=home) as server:
        sent += greet_from_several_workers(server, directory)
        assert series(server, "greetings_total") == {(): sent}
        assert series(server, "failures_total") == {(): 0.0}
