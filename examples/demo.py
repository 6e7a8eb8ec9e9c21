"""Why merging matters: four processes, one killed, one page, and every request counted.

    make demo

Runs the server of `gunicorn_app` under `mpmetrics run`, sends it requests, kills a worker, sends
more, and compares what the page says with what was sent. Exits with status 1 if a number differs.
Nothing is left behind.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.request import urlopen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

HOST = "127.0.0.1"
WORKERS = 4
CLIENTS = 16
PATIENCE = 20
"""Seconds after which the demo gives up a server that does not answer."""


class Request(NamedTuple):
    """A request to the server."""

    method: str
    endpoint: str
    body: bytes = b""


class Answer(NamedTuple):
    """The labels by which the server counts an answer."""

    endpoint: str
    status: str


ORDER = Request("POST", "/checkout", b"a teapot")

REQUESTS = [
    *[Request("GET", "/")] * 240,
    *[Request("GET", "/cart")] * 120,
    *[ORDER] * 56,
    *[Request("POST", "/checkout")] * 15,
    *[Request("GET", "/checkout")] * 5,
]


def main() -> int:
    """Run the demo; return its exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with TemporaryDirectory(prefix="mpmetrics-demo-") as directory:
            with run_server(directory) as (port, page):
                print(f"A server of {WORKERS} processes listens on port {port}.", flush=True)
                sent = send_to_each_worker(port) + send_concurrently(port)
                kill_a_worker(directory)
                wait_for_compaction(page)
                sent += send_to_each_worker(port) + send_concurrently(port)
                show(directory, "--format", "table")
                counted = show_page(page)
                by_worker = read_by_worker(directory)
            return compare(sent, counted, by_worker)
    except (OSError, HTTPException) as error:
        print(f"demo: the server does not answer: {error!r}", file=sys.stderr)
    except subprocess.SubprocessError as error:
        print(f"demo: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
    return 1


@contextmanager
def run_server(directory: str) -> Iterator[tuple[int, str]]:
    """Run the example server with its metrics in *directory*; yield its port and the page's URL."""
    # Requests wait in the socket until the server takes them: there is no start-up to wait for.
    with socket.create_server((HOST, 0)) as listener:
        options = ["--workers", str(WORKERS), "--bind", f"fd://{listener.fileno()}"]
        options += ["--no-control-socket", "--log-level", "critical"]
        gunicorn = [sys.executable, "-m", "gunicorn", *options, "app"]
        wrapper = [sys.executable, "-m", "mpmetrics_cli", "run", "--listen", f"{HOST}:0"]
        server = subprocess.Popen(
            [*wrapper, "--dir", directory, "--", *gunicorn],
            cwd=Path(__file__).with_name("gunicorn_app"),
            pass_fds=[listener.fileno()],
            stderr=subprocess.PIPE,
            text=True,
        )
        port = listener.getsockname()[1]
    try:
        yield port, read_address(server)
    finally:
        server.terminate()
        _, messages = server.communicate(timeout=PATIENCE)
        print(messages, end="", file=sys.stderr)


def read_address(server: subprocess.Popen[str]) -> str:
    """Return the URL of the page, which the wrapper prints; pass on other messages."""
    for line in server.stderr or ():
        if " listening on " in line:
            return line.split()[-1]
        print(line, end="", file=sys.stderr)
    message = "it has ended"
    raise OSError(message)


def kill_a_worker(directory: str) -> None:
    """Kill the worker that has answered most requests."""
    by_worker = read_by_worker(directory)
    victim = max(by_worker, key=lambda pid: by_worker[pid].total())
    os.kill(int(victim), signal.SIGKILL)
    print(f"Worker {victim} has answered {by_worker[victim].total()} requests. Killed it.")


def wait_for_compaction(page: str) -> None:
    """Wait until the wrapper has folded the files of the dead worker."""
    deadline = time.monotonic() + PATIENCE
    while 'mpmetrics_compactions_total{outcome="folded"} 0.0' in read(page):
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.1)


def read(url: str) -> str:
    """Return the page at *url*."""
    with urlopen(url, timeout=PATIENCE) as response:  # noqa: S310 - our own server
        return str(response.read().decode())


def show_page(url: str) -> Counter[Answer]:
    """Print the lines of the page about the shop's requests; return their values."""
    print(f"\n$ curl {url}\n\n…")
    counted: Counter[Answer] = Counter()
    for line in read(url).splitlines():
        found = re.fullmatch(r'shop_requests_total{endpoint="(.*)",status="(.*)"} (.*)', line)
        if found:
            counted[Answer(found[1], found[2])] = int(float(found[3]))
        if line.startswith(("shop_requests", "mpmetrics_files", "mpmetrics_worker_")):
            print(line)
    print("…", flush=True)
    return counted


def send_to_each_worker(port: int) -> Counter[Answer]:
    """Send one order to each worker, all at once.

    A worker that has said "100 Continue" is busy until it has the order.
    """
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(port)) for _ in range(WORKERS)]
        for connection in connections:
            connection.putrequest(ORDER.method, ORDER.endpoint)
            connection.putheader("Content-Length", str(len(ORDER.body)))
            connection.putheader("Expect", "100-continue")
            connection.endheaders()
        for connection in connections:
            connection.sock.recv(1024)
        for connection in connections:
            connection.send(ORDER.body)
        return Counter(read_answer(connection, ORDER) for connection in connections)


def send_concurrently(port: int) -> Counter[Answer]:
    """Send all requests, several at a time."""
    with ThreadPoolExecutor(CLIENTS) as clients:
        return Counter(clients.map(partial(send, port), REQUESTS))


def send(port: int, request: Request) -> Answer:
    """Send one request over a connection of its own."""
    with connect(port) as connection:
        connection.request(request.method, request.endpoint, request.body)
        return read_answer(connection, request)


def connect(port: int) -> closing[HTTPConnection]:
    """Return a connection to the server; it is closed by the `with` block."""
    return closing(HTTPConnection(HOST, port, timeout=PATIENCE))


def read_answer(connection: HTTPConnection, request: Request) -> Answer:
    """Wait for the answer to a request."""
    response = connection.getresponse()
    response.read()
    return Answer(request.endpoint, str(response.status))


def dump(directory: str, *options: str) -> str:
    """Return the output of `mpmetrics dump` for the directory."""
    command = [sys.executable, "-m", "mpmetrics_cli", "dump", directory, *options]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def show(directory: str, *options: str) -> None:
    """Print the command and its output."""
    print(f"\n$ mpmetrics dump {directory} {' '.join(options)}\n")
    print(dump(directory, *options), end="", flush=True)


def read_by_worker(directory: str) -> dict[str, Counter[Answer]]:
    """Return the requests that each worker has counted; the archive of the dead is one more."""
    families = json.loads(dump(directory, "--format", "json", "--by-process"))["families"]
    named = {family["name"]: family for family in families}
    processes = named.get("shop_requests", {}).get("processes", {})
    return {pid: tally(samples) for pid, samples in processes.items()}


def tally(samples: Iterable[dict[str, Any]]) -> Counter[Answer]:
    """Return the values of *samples* by what they count."""
    return Counter({Answer(**sample["labels"]): int(sample["value"]) for sample in samples})


def compare(
    sent: Counter[Answer], counted: Counter[Answer], by_worker: Mapping[str, Counter[Answer]]
) -> int:
    """Print what was sent beside what was counted; return 0 if they are equal, else 1."""
    columns = {"sent": sent, "counted": counted}
    columns |= {column_of(pid): own for pid, own in by_worker.items()}
    print()
    print(" " * 16, *(f"{head:>14}" for head in columns))
    for answer in sorted({*sent, *counted}):
        print(f"{' '.join(answer):16}", *(f"{column[answer]:14}" for column in columns.values()))
    print(f"{'total':16}", *(f"{column.total():14}" for column in columns.values()))
    living = len(by_worker.keys() - {"archive"})
    print(f"\n{living} of {WORKERS} workers are alive. Without merging, a scrape gives the column")
    print("of the worker that answers it.\n")
    if counted != sent:
        print("demo: what was counted differs from what was sent", file=sys.stderr)
        return 1
    print(f"All {sent.total()} requests are counted, for every endpoint and status.")
    return 0


def column_of(pid: str) -> str:
    """Return the title of the column of a process."""
    return "the dead" if pid == "archive" else f"worker {pid}"


if __name__ == "__main__":
    sys.exit(main())
