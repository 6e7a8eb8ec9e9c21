"""The directories that benchmarks read, with any number of workers and entries.

Each worker has counters, histograms, summaries and gauges of several modes in about the mix of a
web service. prometheus_client's own class writes the files.
"""

from __future__ import annotations

import mmap
import random
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import Histogram
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.utils import floatToGoString

from mpmetrics.format import codec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BOUNDS = tuple(map(floatToGoString, Histogram.DEFAULT_BUCKETS))


class Case(NamedTuple):
    """A directory to measure: the *workers*, the *entries* of each, and the ratios to reach.

    With *own* every worker has series of its own; otherwise all have the same.
    """

    name: str
    workers: int
    entries: int
    warm_bytes: float
    cold_bytes: float
    own: bool = False


CASES = (
    Case("small", 4, 1_000, 8, 1.5),
    Case("web", 8, 9_000, 20, 2.5),
    Case("big", 64, 24_000, 25, 3),
    Case("sparse", 64, 500, 12, 2.5, own=True),
)


def write_directory(path: Path, case: Case) -> None:
    """Fill the empty directory *path* with the files of *case*."""
    rng = random.Random(case.name)
    for worker in range(case.workers):
        files: dict[str, MmapedDict] = {}
        names = _entries(f"worker-{worker}-" if case.own else "")
        for _, (kind, key) in zip(range(case.entries), names, strict=False):
            if kind not in files:
                files[kind] = MmapedDict(str(path / f"{kind}_{1000 + worker}.db"))
            files[kind].write_value(key, float(rng.randrange(10_000)), 0.0)
        for file in files.values():
            file.close()


def _entries(prefix: str) -> Iterator[tuple[str, str]]:
    """Yield pairs of file kind and key, route by route of the service, without end."""
    for number in count():
        labels = {"method": "GET", "path": f"/{prefix}api/v1/resource/{number}"}
        family = f"http_request_duration_seconds_{number % 3}"
        yield "histogram", _key(family, "_sum", labels, "Time from request to response")
        for bound in BOUNDS:
            with_bound = {**labels, "le": bound}
            yield "histogram", _key(family, "_bucket", with_bound, "Time from request to response")
        for status in ("200", "404", "500"):
            with_status = {**labels, "status": status}
            yield "counter", _key("http_requests", "_total", with_status, "Requests served")
        for suffix in ("_count", "_sum"):
            yield "summary", _key("http_response_bytes", suffix, labels, "Sizes of responses")
        yield "gauge_livesum", _key("http_requests_in_progress", "", labels, "Requests under way")
        yield "gauge_max", _key("http_largest_request_bytes", "", labels, "Largest request")


def _key(family: str, suffix: str, labels: dict[str, str], help_text: str) -> str:
    return mmap_key(family, family + suffix, list(labels), list(labels.values()), help_text)


class Changes:
    """The memory maps of a directory, through which every value is changed as workers do it."""

    def __init__(self, path: Path) -> None:
        """Map every file of the directory *path*."""
        self._maps = []
        for file in sorted(path.iterdir()):
            with file.open("r+b") as opened:
                mapped = mmap.mmap(opened.fileno(), 0)
            used = codec.read_used(mapped[: codec.HEADER_SIZE])
            _, offsets = codec.scan_keys(mapped[codec.HEADER_SIZE : used], codec.HEADER_SIZE)
            self._maps.append((mapped, [offset >> 3 for offset in offsets]))

    def make(self) -> None:
        """Add one to every value."""
        for mapped, indexes in self._maps:
            with memoryview(mapped) as view, view.cast("d") as doubles:
                for index in indexes:
                    doubles[index] += 1.0

    def close(self) -> None:
        """Unmap all files."""
        for mapped, _ in self._maps:
            mapped.close()
