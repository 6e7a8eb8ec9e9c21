"""Directories with files of every type and mode, and their expected totals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import prometheus_client
from prometheus_client.multiprocess import MultiProcessCollector

import mpmetrics
from tests.database import Entry, counter, gauge, histogram, summary, write

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from prometheus_client import Metric

    Totals = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]

MERGED_MODES: Final = ("sum", "min", "max", "mostrecent")
GONE_MODES: Final = ("livesum", "livemin", "livemax", "livemostrecent", "liveall")


def _value(worker: int) -> float:
    """Return a number whose sum with others depends on the order in which floats are added."""
    return worker * 0.1 + 2.0 ** -(worker + 40)


def _entries(worker: int) -> dict[str, list[Entry]]:
    """Return the entries of *worker*, by the beginning of the file's name."""
    value = _value(worker)
    entries: dict[str, list[Entry]] = {
        "counter": [counter("c", value)],
        "summary": summary("s", worker, value),
        "histogram": histogram("h", {"1.0": worker, "+Inf": 2.0 * worker}, value),
    }
    for mode in (*MERGED_MODES, *GONE_MODES, "all"):
        entries[f"gauge_{mode}"] = [gauge(f"g_{mode}", value, timestamp=float(worker))]
    return entries


def write_workers(directory: Path, workers: Iterable[int]) -> Path:
    """Write the files of dead *workers* into *directory*; return that."""
    for worker in workers:
        for kind, entries in _entries(worker).items():
            write(directory / f"{kind}_{worker}.db", entries, size=4096)
    return directory


def kept(workers: Iterable[int]) -> Totals:
    """Return the samples of *workers* that outlive them, compacted or not."""
    values = [_value(worker) for worker in workers]
    total, count = math.fsum(values), float(sum(workers))
    plain = {
        "c_total": total,
        "s_count": count,
        "s_sum": total,
        "h_sum": total,
        "h_count": 3 * count,
        "g_sum": total,
        "g_min": min(values),
        "g_max": max(values),
        "g_mostrecent": _value(max(workers)),
    }
    buckets: Totals = {
        ("h_bucket", (("le", "1.0"),)): count,
        ("h_bucket", (("le", "+Inf"),)): 3 * count,
    }
    return {**buckets, **{(name, ()): value for name, value in plain.items()}}


def by_process(workers: Iterable[int]) -> Totals:
    """Return the samples of gauges of mode `all`, which last as long as their files."""
    return {("g_all", (("pid", str(worker)),)): _value(worker) for worker in workers}


def totals(families: Iterable[Metric]) -> dict[Any, float]:
    """Return the value of every sample of *families*, by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def ours(directory: Path) -> dict[Any, float]:
    """Return the samples that this project reads; a problem of any kind fails the test."""
    collection = mpmetrics.collect(directory)
    assert list(collection.problems) == []
    return totals(collection.families)


def theirs(directory: Path) -> dict[Any, float]:
    """Return the samples that prometheus_client's own collector reads."""
    registry = prometheus_client.CollectorRegistry()
    return totals(MultiProcessCollector(registry, str(directory)).collect())


def is_gone_with_its_worker(key: tuple[str, object]) -> bool:
    """Return whether a sample is of a gauge that ends with its worker, or may end with it."""
    return key[0] == "g_all" or key[0].startswith("g_live")
