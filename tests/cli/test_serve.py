"""`mpmetrics serve`: a process that serves a page until it gets a signal."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from mpmetrics._log_limit import LENGTH, LINES
from tests.cli.directories import fill
from tests.cli.processes import Ending, command, invoke, run
from tests.database import counter
from tests.servers import Handler, answering, answering_with, fetch, listening
from tests.workers import PATIENCE, Worker, environment, spawn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

resource = pytest.importorskip("resource", reason="needs POSIX")


@contextmanager
def serving(*arguments: str | Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run the command; yield the process and the URL that it writes."""
    line = command("serve", "--listen", "127.0.0.1:0", *arguments)
    with spawn(line, stderr=subprocess.PIPE, env=environment(None)) as process:
        try:
            assert process.stderr is not None
            message = process.stderr.readline().decode()
            found = re.fullmatch(
                r"mpmetrics: listening on (http://127\.0\.0\.1:[0-9]+)/metrics\n", message
            )
            assert found, message
            yield process, found[1]
        finally:
            process.kill()


def test_a_directory_that_comes_later(tmp_path: Path) -> None:
    """The command says that it waits for a missing directory, and has its metrics once it comes."""
    later = tmp_path / "later"
    line = command("serve", "--listen", "127.0.0.1:0", later)
    with spawn(line, stderr=subprocess.PIPE, env=environment(None)) as process:
        try:
            assert process.stderr is not None
            message = process.stderr.readline().decode()
            assert message == (
                f"mpmetrics: waiting for {later} (no such directory): its metrics come as soon as "
                "it is there\n"
            )
            url = process.stderr.readline().decode().rpartition(" ")[2].strip()
            before = fetch(url).body
            later.mkdir()
            fill(later, {"counter_7.db": counter("jobs", 3)})
            after = fetch(url).body
        finally:
            process.kill()
    up = rb'mpmetrics_source_up\{source="[^"]+"\} '
    assert re.search(up + rb"0\.0\n", before)
    assert re.search(up + rb"1\.0\n", after)
    assert b"jobs_total 3.0\n" in after


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal(tmp_path: Path, number: int) -> None:
    """The command serves until SIGTERM or SIGINT, and then ends with status 0 and no message."""
    fill(tmp_path, {"counter_7.db": counter("jobs", 3)})
    with serving(tmp_path) as (process, address):
        assert b"jobs_total 3.0\n" in fetch(f"{address}/metrics").body
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")
def test_live_and_dead_processes_are_counted(tmp_path: Path) -> None:
    """The page counts live and dead processes."""
    fill(tmp_path, {"counter_1.db": counter("jobs", 3)})
    with Worker(tmp_path) as worker, serving(tmp_path) as (_, address):
        worker.do("Counter('jobs', 'help').inc()")
        page = fetch(f"{address}/metrics").body
    assert b'mpmetrics_processes{state="alive"} 1.0\n' in page
    assert b'mpmetrics_processes{state="dead"} 1.0\n' in page
    assert b"jobs_total 4.0\n" in page


def test_filters_labels_and_other_exporters(tmp_path: Path) -> None:
    """The page is filtered and labelled as that of `dump`, and has the pages of other exporters."""
    fill(tmp_path, {"counter_7.db": [counter("jobs", 3), counter("other", 1)]})
    with answering_with(b"jobs_elsewhere 5\n") as url:
        options = ("--source", url, "--include", "jobs", "--exclude", "jobs_x", "--label", "a=b")
        with serving(tmp_path, *options) as (_, address):
            page = fetch(f"{address}/metrics").body
    samples = [line for line in page.splitlines() if not line.startswith(b"#")]
    assert samples == [b'jobs_total{a="b"} 3.0', b'jobs_elsewhere{a="b"} 5.0']


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux")
def test_without_descriptors_it_logs_little_and_answers_when_there_are_some_again(
    tmp_path: Path,
) -> None:
    """Clients that cannot be accepted cost a few lines of log, and the page comes back."""
    fill(tmp_path, {"counter_7.db": counter("jobs", 3)})
    with serving(tmp_path) as (process, address), ExitStack() as stack:
        assert process.stderr is not None
        assert fetch(f"{address}/-/healthy").status == 200  # it accepts clients
        # An open file must have a number below the limit: no number is left.
        before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, before[1]))
        host, port = address.removeprefix("http://").split(":")
        for _ in range(20):
            stack.enter_context(socket.create_connection((host, int(port))))
        first = process.stderr.readline()
        assert first.startswith(b"mpmetrics: socket.accept() out of system resource: OSError: ")
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)
        assert b"jobs_total 3.0\n" in fetch(f"{address}/metrics").body
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        rest = process.stderr.read().splitlines()
    assert len(rest) <= LINES
    assert all(len(line) <= LENGTH + 20 for line in [first, *rest])


def test_a_source_has_a_name_and_a_password(tmp_path: Path) -> None:
    """A source has the name that it was given, and a configuration of its own."""
    fill(tmp_path, {"counter_7.db": counter("jobs", 3)})
    (tmp_path / "source.yml").write_text("authorization: {credentials_file: token}")
    (tmp_path / "token").write_text("secret\n")

    def answer(handler: Handler) -> None:
        handler.send(b"a 1\n", 200 if handler.headers["Authorization"] == "Bearer secret" else 401)

    with (
        answering(answer) as url,
        serving(
            tmp_path,
            *("--source", f"node={url}?x=y", "--source", url),
            *("--source-config", f"node={tmp_path / 'source.yml'}"),
        ) as (_, address),
    ):
        page = fetch(f"{address}/metrics").body
    assert b"\na 1.0\n" in page
    assert b'mpmetrics_source_up{source="node"} 1.0\n' in page
    assert f'mpmetrics_source_up{{source="{url}"}} 0.0\n'.encode() in page


def _late(handler: Handler) -> None:
    """Do not answer before the test is over."""
    handler.server.over.wait(PATIENCE)


def test_a_late_exporter_does_not_hold_up_the_page(tmp_path: Path) -> None:
    """A page without the late exporter is served after the timeout."""
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
        pytest.param(["/etc/hosts"], "/etc/hosts: not a directory", id="file"),
        pytest.param(["'/run'"], "quotes around it; is /run meant?", id="quotes"),
        pytest.param([".", "--listen", "x"], "cannot listen on x: ", id="address"),
        pytest.param([".", "--web-config", "/no/file"], "/no/file: ", id="web-config"),
        pytest.param([".", "--timeout", "0"], "Invalid value for '--timeout'", id="timeout"),
        pytest.param([".", "--timeout", "nan"], "Invalid value for '--timeout'", id="no-number"),
        pytest.param([".", "--source", "ftp://x/"], "only http and https", id="source"),
        pytest.param([".", "--source", "=http://x/"], "'--source'", id="no-name"),
        pytest.param([".", "--source-config", "x"], "there is one --source", id="no-source"),
        pytest.param(
            [".", "--source", "http://x/", "--source-config", "a=x"], "--source a=", id="other-name"
        ),
        pytest.param(
            [".", *["--source", "a=http://x/"] * 2, "--source-config", "a=x"],
            "there is not just one --source a=",
            id="equal-names",
        ),
        pytest.param(
            [".", "--source", "http://x/", "--source-config", "/no/file"], "/no/file", id="no-file"
        ),
        pytest.param([".", "--label", "le=x"], "label 'le'", id="label"),
        pytest.param([".", "--include", ""], "", id="prefix"),
        pytest.param([], "PROMETHEUS_MULTIPROC_DIR is not set", id="nothing"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(arguments: list[str], words: str) -> None:
    """A mistake is one line and status 2."""
    status, stdout, stderr = invoke("serve", *arguments)
    assert (status, stdout, stderr.count("\n")) == (2, "", 1)
    assert words in stderr


@pytest.mark.parametrize("name", ["serve", "run", "events"])
def test_a_port_in_use_names_the_option_for_another(tmp_path: Path, name: str) -> None:
    """A port in use is one line that names `--listen`, with status 2; nothing is started."""
    with listening() as listener:
        taken = f"127.0.0.1:{listener.getsockname()[1]}"
        others = {
            "serve": [str(tmp_path)],
            "run": ["--", "touch", str(tmp_path / "started")],
            "events": ["--publisher", "tcp://127.0.0.1:1"],
        }
        ending = run(command(name, "--listen", taken, *others[name]))
    assert (ending.status, ending.stdout, ending.stderr.count("\n")) == (2, "", 1)
    assert ending.stderr.startswith(f"mpmetrics: cannot listen on {taken}: Address already in use")
    assert "--listen" in ending.stderr
    assert not (tmp_path / "started").exists()


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the message is one line that names what to install."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert invoke("serve", tmp_path) == Ending(
        2,
        "",
        "mpmetrics: the package uvicorn is needed, which the extra 'serve' brings: "
        "pip install '.[serve]' in a clone of mpmetrics\n",
    )


def test_a_release_of_uvicorn_without_a_part_that_is_used(tmp_path: Path) -> None:
    """A release of uvicorn that has moved a private part is named in one line, with status 2."""
    package = tmp_path / "packages" / "uvicorn"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("class Server: ...\n")
    ending = run(command("serve", tmp_path), env={"PYTHONPATH": str(package.parent)})
    assert (ending.status, ending.stdout, ending.stderr.count("\n")) == (2, "", 1)
    assert ending.stderr.startswith("mpmetrics: uvicorn ")
    assert "cannot be used: No module named 'uvicorn.protocols'" in ending.stderr
