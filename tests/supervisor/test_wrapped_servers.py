"""Real servers under `mpmetrics run`: every answer is counted, whatever happens to workers."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import sysconfig
import time
from contextlib import suppress
from http.client import HTTPException
from typing import TYPE_CHECKING, NamedTuple

import pytest

from mpmetrics.supervisor import launch
from mpmetrics.system.processes import list_descendants, select_workers
from tests.servers import fetch, free_port
from tests.workers import PATIENCE, environment, run_to_end
from tests.wrapped import Wrapped

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not launch.IS_SUPPORTED, reason="run needs Linux")

APP = """
import os
from prometheus_client import Counter, Gauge, Histogram
JOBS = Counter("jobs", "help")
SIZE = Histogram("size", "help", buckets=[1])
BUSY = Gauge("busy", "help", multiprocess_mode="livesum")

def count():
    JOBS.inc()
    SIZE.observe(1)
    BUSY.set(1)
    return str(os.getpid()).encode()

def wsgi(environ, start_response):
    body = count()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"].endswith("shutdown"):
                return
    body = count()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""


class Server(NamedTuple):
    """A server program: its command line, and how it handles signals.

    The *line* has fields for the port and more options; *recycling* are options by which it
    replaces workers after a while. *respawns* is whether it replaces a killed worker, *reloads*
    whether it replaces all of them at HUP.
    """

    line: str
    recycling: str = ""
    respawns: bool = True
    reloads: bool = True


GUNICORN = (
    # Not as a module, which it could not do again when it replaces itself.
    f"{sysconfig.get_path('scripts')}/gunicorn --workers 2 --bind 127.0.0.1:{{port}} "
    "--no-control-socket {more} app:wsgi"
)

SERVERS = {
    "gunicorn": Server(GUNICORN, "--max-requests 5"),
    "gunicorn-gthread": Server(GUNICORN.replace("{more}", "-k gthread {more}"), "--max-requests 5"),
    "uvicorn": Server(
        "-m uvicorn --workers 2 --port {port} --log-level warning {more} app:asgi",
        "--limit-max-requests 5",
    ),
    "granian": Server(
        "-m granian --interface asgi --workers 2 --port {port} --respawn-failed-workers "
        "--no-ws {more} app:asgi",
    ),
    "hypercorn": Server(
        "-m hypercorn --workers 2 --bind 127.0.0.1:{port} {more} app:asgi",
        respawns=False,
    ),
}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """Return a directory with an application."""
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.fixture
def port() -> int:
    """Return a port for the server: not every one takes a socket that is open already."""
    return free_port()


class Client:
    """Sends requests, and counts those that were answered, by the worker that answered."""

    def __init__(self, port: int) -> None:
        """Send to *port*."""
        self._url = f"http://127.0.0.1:{port}/"
        self.answered: dict[int, int] = {}
        self.lost = 0

    def send(self) -> bool:
        """Send one request; return whether it was answered."""
        try:
            answer = fetch(self._url)
        except ConnectionRefusedError:
            return False
        except (OSError, HTTPException):
            # Sent, but to a worker that was about to end: it may have been counted or not.
            self.lost += 1
            return False
        pid = int(answer.body)
        self.answered[pid] = self.answered.get(pid, 0) + 1
        return True

    def send_until(
        self, wrapped: Wrapped, workers: int = 2, *, old: frozenset[int] = frozenset()
    ) -> None:
        """Send until that many *workers* have answered, without the *old* ones."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self.send()
            time.sleep(0.005)  # a server does not report that a worker is ready
            if len(self.answered.keys() - old) >= workers:
                return
            assert wrapped.process.poll() is None, wrapped.said.decode()
        raise AssertionError((self.answered, wrapped.said.decode()))

    @property
    def total(self) -> int:
        """How many requests were answered."""
        return sum(self.answered.values())


def start(server: Server, app: Path, port: int, more: str = "", *options: str) -> Wrapped:
    """Start a server under `run`."""
    line = server.line.format(port=port, more=more).split()
    interpreter = [] if line[0] != "-m" else [sys.executable]
    return Wrapped(*interpreter, *line, options=options, cwd=app, stdout=sys.stderr.fileno())


def check(wrapped: Wrapped, client: Client, *, alive: int | None = None) -> dict[str, float]:
    """Check that exactly the answered requests are counted; return the page."""
    page = wrapped.until(
        lambda page: alive is None or page.get("mpmetrics_processes alive", 0) == alive
    )
    for name in ("jobs_total", "size_count"):
        assert client.total <= page[name] <= client.total + client.lost, (name, client.answered)
    return page


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_starts_and_stops(name: str, app: Path, port: int) -> None:
    """Every answer is counted; SIGTERM ends the server as its manual says; no directory is left."""
    with start(SERVERS[name], app, port) as wrapped:
        client = Client(port)
        client.send_until(wrapped)
        page = check(wrapped, client)
        assert page["busy"] == len(client.answered)
        directory = wrapped.directory
        assert wrapped.end(signal.SIGTERM) == 0, wrapped.said.decode()
    assert not directory.exists()


@pytest.mark.parametrize("name", [name for name in SERVERS if SERVERS[name].respawns])
def test_a_worker_is_killed(name: str, app: Path, port: int) -> None:
    """The counts of a killed worker stay, its live gauges go, and its restart is counted."""
    with start(SERVERS[name], app, port) as wrapped:
        client = Client(port)
        client.send_until(wrapped)
        before = frozenset(client.answered)
        victim = max(before)
        wrapped.until(lambda page: page["mpmetrics_workers"] >= 2)
        os.kill(victim, signal.SIGKILL)
        client.send_until(wrapped, workers=1, old=before)
        wrapped.until(lambda page: page.get("mpmetrics_files archive", 0) >= 2)
        page = check(wrapped, client)
        assert page["mpmetrics_worker_exits_total"] >= 1
        page = wrapped.until(lambda page: page["busy"] == len(client.answered) - 1)
        assert page["mpmetrics_worker_restarts_total"] >= 1
        assert wrapped.end(signal.SIGTERM) == 0, wrapped.said.decode()


@pytest.mark.parametrize("name", [name for name in SERVERS if SERVERS[name].reloads])
def test_a_server_reloads(name: str, app: Path, port: int) -> None:
    """At SIGHUP the main process replaces its workers, and the totals stay."""
    with start(SERVERS[name], app, port) as wrapped:
        client = Client(port)
        client.send_until(wrapped)
        before = frozenset(client.answered)
        wrapped.process.send_signal(signal.SIGHUP)
        client.send_until(wrapped, old=before)
        wrapped.until(lambda page: page["mpmetrics_worker_exits_total"] >= 2)
        wrapped.until(lambda page: page["mpmetrics_compactions_total folded"] >= 1)
        check(wrapped, client)
        assert wrapped.end(signal.SIGTERM) == 0, wrapped.said.decode()


@pytest.mark.parametrize("name", ["gunicorn", "gunicorn-gthread", "uvicorn"])
def test_a_server_recycles_its_workers(name: str, app: Path, port: int) -> None:
    """The files of workers that live for a few requests do not pile up."""
    server = SERVERS[name]
    with start(server, app, port, server.recycling) as wrapped:
        client = Client(port)
        client.send_until(wrapped, workers=8)
        page = wrapped.until(
            lambda page: (
                page["mpmetrics_compactions_total folded"] >= 1
                and page.get("mpmetrics_processes dead", 0) == 0
            )
        )
        page = check(wrapped, client)
        assert page["mpmetrics_files counter"] <= 4
        assert wrapped.end(signal.SIGTERM) == 0, wrapped.said.decode()


def test_a_server_that_cannot_import_its_application(app: Path, port: int) -> None:
    """A server that gives up at once has the same status with and without the wrapper."""
    (app / "app.py").write_text("raise RuntimeError('no such thing')\n")
    one = "--workers 1"  # with more of them gunicorn's own status varies, 1 or 3
    line = SERVERS["gunicorn"].line.format(port=port, more=one).split()
    alone = run_to_end(line, cwd=app, stderr=subprocess.DEVNULL)
    assert alone.returncode > 0
    with start(SERVERS["gunicorn"], app, port, one) as wrapped:
        assert wrapped.end() == alone.returncode
    assert b"no such thing" in wrapped.said


def test_an_endless_crash_loop(app: Path, port: int) -> None:
    """While uvicorn starts crashing workers over and over, the page is served, and a line warns."""
    (app / "app.py").write_text("raise RuntimeError('no such thing')\n")
    with start(SERVERS["uvicorn"], app, port) as wrapped:
        wrapped.wait_for(rb"workers have ended within 10 s of their start, the last with status 1")
        assert wrapped.samples()["mpmetrics_worker_exits_total"] >= 5
        assert wrapped.end(signal.SIGTERM) == 0, wrapped.said.decode()


def test_gunicorn_replaces_itself(app: Path, port: int) -> None:
    """After SIGUSR2, and SIGTERM to the old main process, the run follows the new one."""
    with start(SERVERS["gunicorn"], app, port) as wrapped:
        client = Client(port)
        client.send_until(wrapped)
        before = frozenset(client.answered)
        old = wrapped.children()[0]
        wrapped.process.send_signal(signal.SIGUSR2)
        client.send_until(wrapped, old=before)
        os.kill(old, signal.SIGTERM)
        wrapped.wait_for(rb"the server goes on as process")
        client.send()
        check(wrapped, client, alive=2)
        assert wrapped.end(signal.SIGTERM) == 0, wrapped.said.decode()


TASKS = """
import os
from celery import Celery
from prometheus_client import Counter
DONE = Counter("done", "help")
app = Celery("tasks", broker="filesystem://")
app.conf.update(
    broker_transport_options={name: "queue" for name in ("data_folder_in", "data_folder_out")},
    control_folder="control",
    worker_send_task_events=False,
)
@app.task
def work(name):
    DONE.inc()
    with open("done", "w") as done:
        done.write("!")
"""


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """Return a directory with tasks for celery, folders as its broker, and a pipe for results."""
    (tmp_path / "tasks.py").write_text(TASKS)
    for name in ("queue", "control"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "done")
    return tmp_path


def submit(tasks: Path, count: int) -> None:
    """Have celery do *count* tasks; return when they are done."""
    program = f"import tasks\nfor number in range({count}): tasks.work.delay(str(number))"
    env = {**environment(None), "PYTHONPATH": str(tasks)}
    reader = os.open(tasks / "done", os.O_RDWR)  # for both, so that it does not end in between
    try:
        run_to_end([sys.executable, "-c", program], check=True, cwd=tasks, env=env)
        for _ in range(count):
            assert select.select([reader], [], [], PATIENCE)[0], "a task is not done"
            os.read(reader, 1)
    finally:
        os.close(reader)


def celery(tasks: Path) -> Wrapped:
    """Start celery with two prefork workers, each good for three tasks."""
    line = "-m celery -A tasks worker --pool prefork --concurrency 2 --max-tasks-per-child 3"
    quiet = "--without-gossip --without-mingle --without-heartbeat --loglevel ERROR"
    return Wrapped(
        sys.executable, *line.split(), *quiet.split(), cwd=tasks, stdout=sys.stderr.fileno()
    )


def test_celery_recycles_its_workers(tasks: Path) -> None:
    """Every task of recycled workers is counted; SIGTERM ends celery as its manual says."""
    status = None
    # If celery ends a worker that holds the lock of the task queue, it waits for that lock for ever
    # (billiard, `Pool._help_stuff_finish`). That is rare: another celery is started then.
    for _ in range(4):
        with celery(tasks) as wrapped, suppress(TimeoutError):
            submit(tasks, 20)
            page = wrapped.until(lambda page: page.get("done_total") == 20)
            assert page["mpmetrics_worker_exits_total"] >= 4
            # While it replaces a worker, celery itself may miss that it is to end.
            wrapped.until(lambda page: page["mpmetrics_workers"] == 2)
            status = wrapped.end(signal.SIGTERM, patience=PATIENCE / 4)
            break
    assert status == 0, wrapped.said.decode()
    assert b"workers have ended" not in wrapped.said


def test_a_worker_of_celery_is_killed(tasks: Path) -> None:
    """The tasks of a killed worker stay counted; celery itself does not always end after that."""
    with celery(tasks) as wrapped:
        submit(tasks, 10)
        page = wrapped.until(lambda page: page["mpmetrics_workers"] == 2)
        (victim, *_) = [each.pid for each in select_workers(list_descendants(wrapped.process.pid))]
        os.kill(victim, signal.SIGKILL)
        restarts = page["mpmetrics_worker_restarts_total"]
        wrapped.until(lambda page: page["mpmetrics_worker_restarts_total"] > restarts)
        page = wrapped.until(lambda page: page["mpmetrics_compactions_total folded"] >= 1)
        assert page["done_total"] == 10
