"""Registering in a WSGI and an ASGI application: each scrape counts all workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.examples.programs import (
    EXAMPLES,
    GUNICORN,
    greet_from_several_workers,
    read_values,
    scrape,
    serving,
)
from tests.servers import fetch

if TYPE_CHECKING:
    from pathlib import Path

WSGI = (*GUNICORN, "--chdir", str(EXAMPLES), "wsgi_register")
FLASK = (*GUNICORN, "--chdir", str(EXAMPLES), "flask_dispatch")
ASGI = ("-m", "uvicorn", "--app-dir", str(EXAMPLES), "asgi_register:application", "--fd", "{fd}")
FASTAPI = tuple(part.replace("asgi_register:application", "fastapi_mount:app") for part in ASGI)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param((*WSGI, "--workers", "3"), id="wsgi"),
        pytest.param((*FLASK, "--workers", "3"), id="flask"),
        pytest.param((*ASGI, "--workers", "2"), id="asgi"),
        pytest.param((*FASTAPI, "--workers", "2"), id="fastapi"),
    ],
)
def test_each_scrape_has_all_greetings(
    command: tuple[str, ...], directory: Path, home: Path
) -> None:
    """A scrape has the greetings of all workers, whichever worker answers it."""
    with serving(*command, directory=directory, home=home) as server:
        sent = greet_from_several_workers(server, directory)
        pages = [scrape(server) for _ in range(8)]

    assert [read_values(page, "greetings_total") for page in pages] == [{frozenset(): sent}] * 8
    assert all(page.count("# TYPE greetings_total") == 1 for page in pages)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param((*WSGI, "--workers", "1"), id="wsgi"),
        pytest.param(ASGI, id="asgi"),
    ],
)
def test_without_the_variable_one_process_serves_itself(
    command: tuple[str, ...], home: Path
) -> None:
    """Without the variable a server of one process serves its own metrics, and logs the reason."""
    with serving(*command, directory=None, home=home) as server:
        for _ in range(3):
            fetch(server.url)
        page = scrape(server)

    assert read_values(page, "greetings_total") == {frozenset(): 3}
    assert "PROMETHEUS_MULTIPROC_DIR is not set" in server.log
