"""Load: many scrapers at once against `mpmetrics serve`, while the workers write.

``make load`` has 50 connections of `wrk` scrape for a minute a directory of 8 workers with 9,000
entries each, all of which change. Meanwhile a scraper of its own parses every page that it gets:
no counter may fall, and none may be missing. Prints the output of `wrk`, and the server's
resident memory over time. Returns 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.benchmarks.directories import CASES, write_directory
from tests.cli.processes import command
from tests.servers import fetch
from tests.workers import environment, run_to_end, spawn

CASE = next(case for case in CASES if case.name == "web")

WRITE = """
import mmap, struct, sys, time
from mpmetrics.format import codec
maps = []
for path in sys.argv[1:]:
    with open(path, "r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    used = codec.read_used(mapped[: codec.HEADER_SIZE])
    _, offsets = codec.scan_keys(mapped[codec.HEADER_SIZE : used], codec.HEADER_SIZE)
    maps.append((memoryview(mapped).cast("d"), [offset >> 3 for offset in offsets]))
while True:
    for doubles, indexes in maps:
        for index in indexes:
            doubles[index] += 1.0
    time.sleep(0.1)
"""


class Watched(NamedTuple):
    """The findings of the scraper: pages, samples in each, errors, and memory in MiB over time."""

    pages: int
    samples: int
    wrong: list[str]
    memory: list[float]


def watch(url: str, pid: int, ended: threading.Event) -> Watched:
    """Scrape the page and check it until the load has *ended*."""
    seen: dict[str, float] = {}
    pages, wrong, memory = 0, [], []
    while not ended.wait(1.0):
        page = fetch(url)
        now = {
            str((sample.name, sample.labels)): sample.value
            for family in text_string_to_metric_families(page.body.decode())
            if family.type != "gauge"
            for sample in family.samples
        }
        wrong += [f"{key} fell" for key, value in now.items() if value < seen.get(key, 0)]
        if seen and now.keys() != seen.keys():
            wrong.append(f"{len(now)} samples, not {len(seen)}")
        seen = now
        pages += 1
        memory.append(psutil.Process(pid).memory_info().rss / (1 << 20))
    return Watched(pages, len(seen), wrong, memory)


def main() -> int:
    """Run the load, print the figures, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--connections", type=int, default=50)
    given = parser.parse_args()
    wrk = shutil.which("wrk")
    if wrk is None:
        sys.stderr.write("needs the program wrk (Debian package wrk)\n")
        return 2
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        write_directory(directory, CASE)
        for pid in {path.stem.rpartition("_")[2] for path in directory.iterdir()}:
            files = [str(path) for path in directory.glob(f"*_{pid}.db")]
            writer = spawn([sys.executable, "-c", WRITE, *files], env=environment(None))
            stack.enter_context(writer)
            stack.callback(writer.kill)
        server = spawn(
            command("serve", "--listen", "127.0.0.1:0", directory),
            stderr=subprocess.PIPE,
            text=True,
        )
        stack.enter_context(server)
        stack.callback(server.send_signal, signal.SIGTERM)
        assert server.stderr is not None
        url = server.stderr.readline().split()[-1] + "/metrics"
        ended = threading.Event()
        watched: list[Watched] = []
        watcher = threading.Thread(
            target=lambda: watched.append(watch(url, server.pid, ended)), daemon=True
        )
        watcher.start()
        began = time.monotonic()
        line = [wrk, "-t2", f"-c{given.connections}", f"-d{given.seconds}s", "--timeout", "10s"]
        done = run_to_end(
            [*line, "--latency", url], check=True, timeout=None, capture_output=True, text=True
        )
        took = time.monotonic() - began
        ended.set()
        watcher.join()
        (result,) = watched
    wrong = result.wrong + re.findall(r"Socket errors.*|Non-2xx.*", done.stdout)
    print(done.stdout)
    print(f"{took:.0f} s; {result.pages} pages of {result.samples:,} samples checked")
    quarter = max(1, len(result.memory) // 4)
    first, last = (max(part) for part in (result.memory[:quarter], result.memory[-quarter:]))
    print(f"resident memory: {first:.0f} MiB in the first quarter, {last:.0f} MiB in the last")
    print("\n".join(wrong) or "nothing was wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
