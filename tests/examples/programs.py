"""Running the examples as their docstrings describe, and checking that they leave nothing."""

from __future__ import annotations

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prometheus_client.parser import text_string_to_metric_families

from mpmetrics import MultiProcessCollector
from tests.servers import eventually, fetch, listening, running
from tests.workers import PATIENCE, environment, run_to_end

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client import Metric

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
GUNICORN: Final = ("-m", "gunicorn", "--no-control-socket", "--bind", "fd://{fd}")

Labels = frozenset[tuple[str, str]]


class Server:
    """An example that runs; *log* is its output, once it has ended."""

    def __init__(self, port: int) -> None:
        """Describe a server that listens on *port*."""
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.log = ""


def clean_environment(directory: Path | None, home: Path) -> dict[str, str]:
    """Return an environment in which programs write their files to *home*."""
    place = os.fspath(home)
    return environment(directory, HOME=place, TMPDIR=place, PYTHONDONTWRITEBYTECODE="1")


@contextmanager
def serving(*command: str, directory: Path | None, home: Path) -> Iterator[Server]:
    """Run a server until the end of the block; wait until all of its processes have ended.

    In *command*, the arguments of Python, ``{fd}`` stands for the number of a listening socket.
    """
    reader, writer = os.pipe()
    with os.fdopen(reader) as log, listening() as listener:
        descriptor = listener.fileno()
        server = Server(listener.getsockname()[1])
        with running(
            [sys.executable, *(part.format(fd=descriptor) for part in command)],
            env=clean_environment(directory, home),
            pass_fds=[descriptor],
            stdout=writer,
            stderr=writer,
        ):
            os.close(writer)
            # If the server cannot start, clients are refused; else they would wait for ever.
            listener.close()
            yield server
        # The pipe ends with the last process that could write to it.
        server.log = log.read()


def run(
    *command: str | Path, env: Mapping[str, str], patience: float = PATIENCE
) -> subprocess.CompletedProcess[str]:
    """Run a program until no process is left that could write to its pipes."""
    return run_to_end(
        command, ending=signal.SIGTERM, timeout=patience, capture_output=True, env=env, text=True
    )


def read_values(page: str, name: str) -> dict[Labels, float]:
    """Return the values of the series *name* on a page in text format."""
    return _values(text_string_to_metric_families(page), name)


def read_files(files: Iterable[Path], name: str) -> dict[Labels, float]:
    """Return the values of the series *name* in these files of a directory."""
    return _values(MultiProcessCollector.merge(files), name)


def scrape(server: Server) -> str:
    """Return the server's page; some frameworks redirect to a path with a slash."""
    answer = fetch(f"{server.url}/metrics")
    if answer.status == HTTPStatus.TEMPORARY_REDIRECT:
        answer = fetch(f"{server.url}/metrics/")
    assert answer.status == 200
    return answer.body.decode()


def greet_from_several_workers(server: Server, directory: Path) -> int:
    """Send greetings until at least two workers have answered; return the number of greetings."""
    sent = 0

    def share() -> bool:
        nonlocal sent
        with ThreadPoolExecutor(16) as clients:
            answers = list(clients.map(fetch, [server.url] * 48))
        assert {answer.body for answer in answers} == {b"hello\n"}
        sent += len(answers)
        return len(workers_with(directory, "greetings_total")) > 1

    eventually(share, "a second worker answers")
    return sent


def workers_with(directory: Path, name: str) -> list[str]:
    """Return the names of the files in which a counter *name* is above zero."""
    return [
        file.name
        for file in directory.glob("counter_*.db")
        if any(read_files([file], name).values())
    ]


def _values(families: Iterable[Metric], name: str) -> dict[Labels, float]:
    return {
        frozenset(sample.labels.items()): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name
    }
