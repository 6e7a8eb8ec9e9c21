"""`mpmetrics serve`: a process that serves a page until it is told to end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.cli.directories import fill
from tests.cli.processes import Ending, command, invoke
from tests.database import counter
from tests.servers import Handler, answering, answering_with, fetch
from tests.workers import PATIENCE, Worker, environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def serving(*arguments: str | Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run the command; yield the process and the address that it says."""
    line = command("serve", "--listen", "127.0.0.1:0", *arguments)
    with subprocess.Popen(line, stderr=subprocess.PIPE, env=environment(None)) as process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline().decode()
            found = re.fullmatch(r"mpmetrics: listening on (http://127\.0\.0\.1:[0-9]+)\n", said)
            assert found, said
            yield process, found[1]
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_end(tmp_path: Path, number: int) -> None:
    """Whoever asks it to end gets status 0, and no other word."""
    fill(tmp_path, {"counter_7.db": counter("jobs", 3)})
    with serving(tmp_path) as (process, address):
        assert b"jobs_total 3.0\n" in fetch(f"{address}/metrics").body
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")
def test_the_living_are_told_from_the_dead(tmp_path: Path) -> None:
    """The page says how many processes of either kind there are."""
    fill(tmp_path, {"counter_1.db": counter("jobs", 3)})
    with Worker(tmp_path) as worker, serving(tmp_path) as (_, address):
        worker.do("Counter('jobs', 'help').inc()")
        page = fetch(f"{address}/metrics").body
    assert b'mpmetrics_processes{state="alive"} 1.0\n' in page
    assert b'mpmetrics_processes{state="dead"} 1.0\n' in page
    assert b"jobs_total 4.0\n" in page


def test_filters_labels_and_other_exporters(tmp_path: Path) -> None:
    """As in `dump`, and other pages joined in."""
    fill(tmp_path, {"counter_7.db": [counter("jobs", 3), counter("other", 1)]})
    with answering_with(b"jobs_elsewhere 5\n") as url:
        options = ("--source", url, "--prefix", "jobs", "--exclude", "jobs_x", "--label", "a=b")
        with serving(tmp_path, *options) as (_, address):
            page = fetch(f"{address}/metrics").body
    samples = [line for line in page.splitlines() if not line.startswith(b"#")]
    assert samples == [b'jobs_total{a="b"} 3.0', b'jobs_elsewhere{a="b"} 5.0']


def _late(handler: Handler) -> None:
    """Do not answer before the test is over."""
    handler.server.over.wait(PATIENCE)


def test_a_late_exporter_does_not_hold_up_the_page(tmp_path: Path) -> None:
    """After the timeout the rest is served."""
    fill(tmp_path, {"counter_7.db": counter("jobs", 3)})
    with (
        answering(_late) as url,
        serving(tmp_path, "--source", url, "--timeout", "0.1") as (_, address),
    ):
        page = fetch(f"{address}/metrics").body
    assert b"jobs_total 3.0\n" in page
    assert f'mpmetrics_source_up{{source="{url}"}} 0.0\n'.encode() in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["/no/such/directory"], "/no/such/directory: no such directory", id="dir"),
        pytest.param([".", "--listen", "x"], "cannot listen on x: ", id="address"),
        pytest.param([".", "--web-config", "/no/file"], "/no/file: ", id="web-config"),
        pytest.param([".", "--timeout", "0"], "Invalid value for '--timeout'", id="timeout"),
        pytest.param([".", "--timeout", "nan"], "Invalid value for '--timeout'", id="no-number"),
        pytest.param([".", "--source", "ftp://x/"], "only http and https", id="source"),
        pytest.param([".", "--label", "le=x"], "label 'le'", id="label"),
        pytest.param([".", "--prefix", ""], "", id="prefix"),
        pytest.param([], "PROMETHEUS_MULTIPROC_DIR is not set", id="nothing"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(arguments: list[str], words: str) -> None:
    """Before anything listens."""
    status, stdout, stderr = invoke("serve", *arguments)
    assert (status, stdout, stderr.count("\n")) == (2, "", 1)
    assert words in stderr


def test_without_the_extra_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line."""
    monkeypatch.setitem(__import__("sys").modules, "uvicorn", None)
    assert invoke("serve", tmp_path) == Ending(
        2,
        "",
        "mpmetrics: the package uvicorn is needed: pip install 'mpmetrics-toolkit[serve]'\n",
    )
