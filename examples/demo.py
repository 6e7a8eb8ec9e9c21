"""Why merging matters: four processes, one page, and every request counted.

    make demo

Starts the server of `gunicorn_app` on a free port, sends it requests, prints what
`mpmetrics dump` makes of its metrics, and compares that with what was sent. Exits with status 1
if a number differs. Nothing is left behind.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

HOST = "127.0.0.1"
WORKERS = 4
CLIENTS = 16
PATIENCE = 20
"""Seconds after which a server that does not answer is given up."""


class Request(NamedTuple):
    """Something to ask of the server."""

    method: str
    endpoint: str
    body: bytes = b""


class Answer(NamedTuple):
    """What the server counts answers by."""

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
            with run_server(directory) as port:
                print(f"A server of {WORKERS} processes listens on port {port}.", flush=True)
                sent = send_to_each_worker(port) + send_concurrently(port)
                show(directory, "--format", "table")
                show(directory, "--prefix", "shop_requests")
                counted, by_worker = read_counts(directory)
            return compare(sent, counted, by_worker)
    except (OSError, HTTPException) as error:
        print(f"demo: the server does not answer: {error!r}", file=sys.stderr)
    except subprocess.SubprocessError as error:
        print(f"demo: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
    return 1


@contextmanager
def run_server(directory: str) -> Iterator[int]:
    """Run the example server with its metrics in *directory*; give its port."""
    # Requests wait in the socket until the server takes them: there is no start-up to wait for.
    with socket.create_server((HOST, 0)) as listener:
        options = ["--workers", str(WORKERS), "--bind", f"fd://{listener.fileno()}"]
        options += ["--no-control-socket", "--log-level", "warning"]
        server = subprocess.Popen(  # noqa: S603 - our own server
            [sys.executable, "-m", "gunicorn", *options, "app"],
            cwd=Path(__file__).with_name("gunicorn_app"),
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": directory},
            pass_fds=[listener.fileno()],
        )
        port = listener.getsockname()[1]
    try:
        yield port
    finally:
        server.terminate()
        server.wait(PATIENCE)


def send_to_each_worker(port: int) -> Counter[Answer]:
    """Send as many orders at once as there are workers, and see to it that each gets one.

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
    """Return what `mpmetrics dump` says about the directory."""
    command = [sys.executable, "-m", "mpmetrics_cli", "dump", directory, *options]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    return done.stdout


def show(directory: str, *options: str) -> None:
    """Print the command and what it says."""
    print(f"\n$ mpmetrics dump {directory} {' '.join(options)}\n")
    print(dump(directory, *options), end="", flush=True)


def read_counts(directory: str) -> tuple[Counter[Answer], dict[str, Counter[Answer]]]:
    """Return how many requests are counted, and how many by each worker."""
    families = json.loads(dump(directory, "--format", "json", "--by-process"))["families"]
    named = {family["name"]: family for family in families}
    requests = named.get("shop_requests", {"samples": [], "processes": {}})
    by_worker = {pid: tally(samples) for pid, samples in requests["processes"].items()}
    return tally(requests["samples"]), by_worker


def tally(samples: Iterable[dict[str, Any]]) -> Counter[Answer]:
    """Return the values of *samples* by what they count."""
    return Counter({Answer(**sample["labels"]): int(sample["value"]) for sample in samples})


def compare(
    sent: Counter[Answer], counted: Counter[Answer], by_worker: Mapping[str, Counter[Answer]]
) -> int:
    """Print what was sent beside what was counted; return 0 if that is the same, else 1."""
    columns = {"sent": sent, "counted": counted}
    columns |= {f"worker {pid}": own for pid, own in by_worker.items()}
    print()
    print(" " * 16, *(f"{head:>14}" for head in columns))
    for answer in sorted({*sent, *counted}):
        print(f"{' '.join(answer):16}", *(f"{column[answer]:14}" for column in columns.values()))
    print(f"{'total':16}", *(f"{column.total():14}" for column in columns.values()))
    print(f"\n{len(by_worker)} of {WORKERS} workers took part. Without merging, a scrape gives the")
    print("column of whichever worker answers it.\n")
    if counted != sent:
        print("demo: what was counted differs from what was sent", file=sys.stderr)
        return 1
    print(f"All {sent.total()} requests are counted, for every endpoint and status.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
