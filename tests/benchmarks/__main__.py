"""Benchmarks against prometheus_client, both sides on the same directory in the same run.

``make bench`` runs all of them; ``make bench ARGS="web --runs 9"`` one case, more often. Runs of
the two sides alternate, each ratio is the median of the ratios of neighbouring runs, and each
time the median of its side. *Cold* is one collection in a process that has not collected
before; *warm* is a collector that has, with every value changed in between. *families* are
`Metric` objects with their samples, *bytes* is the page in text format.
"""

from __future__ import annotations

import argparse
import gc
import os
import pickle
import platform
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import prometheus_client
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector as TheirCollector

from mpmetrics.scrape.view import DirectoryView
from tests.benchmarks import events
from tests.benchmarks.directories import CASES, Case, Changes, write_directory
from tests.workers import fork

if TYPE_CHECKING:
    from collections.abc import Callable

EVENTS: Final = "events"
"""The case without another side: KV events from an engine to a callback."""


class Ours:
    """This project's side."""

    def __init__(self, path: str) -> None:
        """Collect the directory *path*."""
        self._view = DirectoryView(path)

    def families(self) -> int:
        """Collect to families with samples; return how many samples there are."""
        return sum(len(family.samples) for family in self._view.collect().families)

    def bytes(self) -> int:
        """Collect to a page; return its size."""
        return len(self._view.collect().render())


class Theirs:
    """prometheus_client's side."""

    def __init__(self, path: str) -> None:
        """Collect the directory *path*."""
        self._registry = CollectorRegistry()
        self._collector = TheirCollector(self._registry, path)

    def families(self) -> int:
        """Collect to families with samples; return how many samples there are."""
        return sum(len(family.samples) for family in self._collector.collect())

    def bytes(self) -> int:
        """Collect to a page; return its size."""
        return len(generate_latest(self._registry))


class Figure(NamedTuple):
    """Times of both sides in seconds, run by run, and the ratio to reach, if any."""

    case: str
    state: str
    result: str
    ours: list[float]
    theirs: list[float]
    asked: float | None

    @property
    def ratio(self) -> float:
        """How many times as long their side takes: the median over pairs of runs."""
        pairs = zip(self.theirs, self.ours, strict=True)
        return statistics.median(theirs / ours for theirs, ours in pairs)

    def line(self) -> str:
        """Return the figure as a line of the table."""
        asked = f"{self.asked:g}x" if self.asked else "-"
        verdict = "" if self.asked is None else "ok" if self.ratio >= self.asked else "BELOW"
        return (
            f"{self.case:8} {self.state:5} {self.result:9}"
            f"{statistics.median(self.ours) * 1e3:10.2f} ms"
            f"{statistics.median(self.theirs) * 1e3:11.2f} ms"
            f"{self.ratio:8.1f}x {asked:>6} {verdict}"
        )


def in_a_fork(work: Callable[[], Any]) -> Any:
    """Return what *work* returns in a child process, which starts without its memory."""
    reading, writing = os.pipe()
    child = fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(work(), pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        result = pickle.load(pipe)
    os.waitpid(child, 0)
    return result


def measure_seconds(work: Callable[[], Any]) -> float:
    """Return how many seconds *work* takes."""
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure_cold(path: str, result: str, runs: int) -> tuple[list[float], list[float]]:
    """Time one collection in a new process each, the sides in turn."""

    def once(side: type[Ours | Theirs]) -> float:
        # The collector outlives its first collection, as in a server.
        collector = side(path)
        return float(in_a_fork(lambda: measure_seconds(getattr(collector, result))))

    pairs = [(once(Ours), once(Theirs)) for _ in range(runs)]
    return [ours for ours, _ in pairs], [theirs for _, theirs in pairs]


def measure_warm(path: str, result: str, runs: int) -> tuple[list[float], list[float]]:
    """Time collectors that have collected before, the sides in turn, values changing."""

    def measure() -> tuple[list[float], list[float]]:
        sides: tuple[Ours | Theirs, ...] = (Ours(path), Theirs(path))
        changes = Changes(Path(path))
        times: tuple[list[float], list[float]] = ([], [])
        for side in sides:
            getattr(side, result)()
        for _ in range(runs):
            changes.make()
            for side, collected in zip(sides, times, strict=True):
                collected.append(measure_seconds(getattr(side, result)))
        changes.close()
        return times

    ours, theirs = in_a_fork(measure)
    return ours, theirs


def peak_memory(path: str) -> tuple[float, float]:
    """Return the peak resident memory in MiB that collecting adds: ours when warm, theirs once."""

    def peak(side: type[Ours | Theirs], collections: int) -> float:
        def work() -> float:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            collector = side(path)
            for _ in range(collections):
                collector.bytes()
            return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024

        return float(in_a_fork(work))

    return peak(Ours, 5), peak(Theirs, 1)


def main() -> None:
    """Measure the cases that the command line names, and print them."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.benchmarks")
    names = [*(case.name for case in CASES), EVENTS]
    parser.add_argument("cases", nargs="*", choices=[*names, []], help="which cases (default: all)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each side (default: 5)")
    arguments = parser.parse_args()
    print(
        f"Python {platform.python_version()}, prometheus_client {_version()}, "
        f"{os.cpu_count()} cores, median of {arguments.runs} interleaved runs"
    )
    print(f"{'case':8} {'state':5} {'result':9}{'ours':>13}{'theirs':>14}{'ratio':>9} {'asked':>6}")
    for case in CASES:
        if not arguments.cases or case.name in arguments.cases:
            _measure_case(case, arguments.runs)
    if not arguments.cases or EVENTS in arguments.cases:
        events.main(arguments.runs)


def _measure_case(case: Case, runs: int) -> None:
    """Print all figures of one case."""
    with tempfile.TemporaryDirectory(prefix="mpmetrics-bench-") as path:
        write_directory(Path(path), case)
        for state, measure in (("cold", measure_cold), ("warm", measure_warm)):
            for result in ("families", "bytes"):
                asked = getattr(case, f"{state}_bytes") if result == "bytes" else None
                figure = Figure(case.name, state, result, *measure(path, result, runs), asked)
                print(figure.line(), flush=True)
        ours, theirs = peak_memory(path)
        print(f"{case.name:8} peak memory: ours {ours:.0f} MiB warm, theirs {theirs:.0f} MiB once")


def _version() -> str:
    from importlib.metadata import version  # for one line

    return version(prometheus_client.__name__)


if __name__ == "__main__":
    main()
