"""Compare what is shown and logged of connectors' statistics with what vLLM's own classes do.

Random histories of several workers are recorded by vLLM's classes, sent, merged by both, and
shown by both.
"""

from __future__ import annotations

import json
import math
import pickle
import random
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from prometheus_client import REGISTRY, CollectorRegistry

from mpmetrics._client import names_by_collector
from mpmetrics.engines import MultiConnectorMetrics, MultiConnectorStats
from mpmetrics.engines.connectors import CONNECTOR_FAMILIES
from tests.upstream.catalogue import (
    CONNECTORS,
    PACKAGE,
    TIERS,
    make_connector,
    make_lmcache_server,
    make_simple_offloading,
)
from tests.upstream.configuration import load
from tests.upstream.reporting import compare, count, differ

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HISTORIES: Final = 100
SEED: Final = 13

_TITLES_WITHOUT: Final = ("_p90_ms", "_error_count")
"""Figures that are computed otherwise here, or not at all: those of Mooncake's store."""


class Kind(NamedTuple):
    """A connector: vLLM's class of statistics, its metrics, and how to record random numbers."""

    stats: tuple[str, str]
    make: Callable[[], Any]
    record: Callable[[Any, random.Random], None]


def _record_transfers(stats: Any, chance: random.Random) -> None:
    for key in stats.data:
        if not key.startswith("num_") or key == "num_descriptors":
            continue
        stats.data[key].extend([1] * chance.randrange(3))
    for _ in range(chance.randrange(4)):
        row = {
            "transfer_duration": chance.uniform(0.001, 7),
            "post_duration": chance.uniform(1e-4, 1),
            "bytes_transferred": chance.randrange(1, 1 << 34),
            "num_descriptors": chance.randrange(1, 60_000),
        }
        for key, number in row.items():
            if key in stats.data:
                stats.data[key].append(number)


def _record_store(stats: Any, chance: random.Random) -> None:
    for _ in range(chance.randrange(4)):
        stats.record_operation(
            chance.choice(["save_put", "load_get"]),
            chance.uniform(0, 5),
            chance.randrange(9),
            num_bytes=chance.randrange(1 << 20),
            status=chance.choice(["ok", "error"]),
            num_failed_keys=chance.randrange(3),
        )


def _record_files(stats: Any, chance: random.Random) -> None:
    for _ in range(chance.randrange(4)):
        operation = chance.choice(["Saved", "Loaded"])
        if chance.random() < 0.3:
            stats.record_failed_task_count(operation)
        else:
            stats.record_success_task_duration(operation, chance.uniform(0, 6))


def _record_sparse(stats: Any, chance: random.Random) -> None:
    event = load("vllm.v1.metrics.stats").KVCacheEvictionEvent
    for _ in range(chance.randrange(3)):
        stats.record_snapshot(*(chance.randrange(99) for _ in range(3)))
        stats.record_host_usage(chance.random(), chance.randrange(9))
        stats.record_host_evictions([event(chance.uniform(0, 9), 0.5, (0.25, 3.0))])


def _record_objects(stats: Any, chance: random.Random) -> None:
    for _ in range(chance.randrange(4)):
        names = ("submitted", "completed", "failed", "num_bytes")
        numbers = {name: chance.randrange(9) for name in names}
        stats.record(chance.choice(["save", "load"]), **numbers)


def _record_offloading(stats: Any, chance: random.Random, *, tiers: bool = False) -> None:
    names = "vllm:kv_offload_"
    for way in ("load", "store"):
        for _ in range(chance.randrange(3)):
            size = chance.randrange(1 << 28)
            stats.increase_counter(f"{names}{way}_bytes", size)
            stats.increase_counter(f"{names}{way}_time", chance.random())
            stats.observe_histogram(f"{names}{way}_size", size)
    stats.set_gauge(f"{names}cpu_cache_usage_perc", chance.random())
    if tiers:
        tier = ("1_example",)
        stats.increase_counter(f"{names}tiering_read_bytes", chance.randrange(99), tier)
        stats.observe_histogram(f"{names}tiering_lookup_sync_delay_seconds", 0.01, tier)
        stats.set_gauge(f"{names}tiering_active_promotion_jobs", chance.randrange(9), tier)
        stats.increase_counter("vllm:kvcr_transfer_bytes", chance.randrange(99), ("read",))
        stats.observe_histogram("vllm:kvcr_duration_seconds", 0.3, ("read", "ok"))
        stats.set_gauge("vllm:kvcr_state", chance.randrange(9), ("blocks",))
    if chance.random() < 0.5:
        settings = {"cpu_num_chunks": 8, "cpu_blocks_per_chunk": 2, "cpu_kv_cache_size_bytes": 64}
        settings["cpu_kv_cache_size_tokens"] = 1024
        tiered = [{**settings, "tier": "0_cpu"}, {"tier": "1_example", "example_info": "x"}]
        stats.set_info(tiered if tiers else [settings])


def _record_simple(stats: Any, chance: random.Random) -> None:
    names = "vllm:simple_kv_offload_"
    stats.increase_counter(f"{names}save_outcomes_total", chance.randrange(1, 9), ("stored",))
    stats.increase_counter(f"{names}load_blocks_total", chance.randrange(9))
    stats.set_gauge(f"{names}used_blocks", chance.randrange(9))
    stats.set_gauge(f"{names}pending_store_blocks", chance.randrange(9))
    stats.set_gauge(f"{names}info", 1, ("cpu", "true", "false", "128"))


def _record_lookups(stats: Any, chance: random.Random) -> None:
    for _ in range(chance.randrange(4)):
        stats.record_lookup(chance.uniform(0, 12))


_TIERING: Final = {
    "spec_name": "TieringOffloadingSpec",
    "cpu_bytes_to_use": 1 << 30,
    "secondary_tiers": TIERS,
}


def _known(name: str, stats: str, record: Callable[[Any, random.Random], None]) -> Kind:
    return Kind((f"{PACKAGE}.{CONNECTORS[name][0]}", stats), partial(make_connector, name), record)


_OFFLOADING: Final = (f"{PACKAGE}.offloading.metrics", "OffloadingConnectorStats")

KINDS: Final[Mapping[str, Kind]] = {
    "NixlPullConnector": _known("NixlPullConnector", "NixlKVConnectorStats", _record_transfers),
    "MooncakeConnector": _known("MooncakeConnector", "MooncakeKVConnectorStats", _record_transfers),
    "MooncakeStoreConnector": _known(
        "MooncakeStoreConnector", "MooncakeStoreConnectorStats", _record_store
    ),
    "HF3FSKVConnector": _known("HF3FSKVConnector", "HF3FSKVConnectorStats", _record_files),
    "HiSparseConnector": _known("HiSparseConnector", "HiSparseKVConnectorStats", _record_sparse),
    "UMBPStoreConnector": _known("UMBPStoreConnector", "UMBPStoreConnectorStats", _record_objects),
    "OffloadingConnector": _known(
        "OffloadingConnector", "OffloadingConnectorStats", _record_offloading
    ),
    "OffloadingConnector with tiers": Kind(
        _OFFLOADING,
        partial(make_connector, "OffloadingConnector", _TIERING),
        partial(_record_offloading, tiers=True),
    ),
    "SimpleCPUOffloadConnector": Kind(
        ("vllm.v1.simple_kv_offload.metrics", "SimpleCPUOffloadStats"),
        make_simple_offloading,
        _record_simple,
    ),
    "LMCacheMPConnector": Kind(
        ("lmcache.integration.vllm.lmcache_mp_metrics", "LMCacheMPConnectorStats"),
        make_lmcache_server,
        _record_lookups,
    ),
}


def read_series(registry: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return what a *registry* shows, without labels that are empty, which are no labels."""
    return {
        (
            sample.name,
            tuple(sorted((name, value) for name, value in sample.labels.items() if value)),
        ): sample.value
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def compare_kind(title: str, kind: Kind, chance: random.Random) -> int:
    """Compare one connector; return the number of series."""
    name = title.partition(" ")[0]
    for collector in names_by_collector(REGISTRY):
        REGISTRY.unregister(collector)
    theirs = kind.make()
    registry = CollectorRegistry()
    ours = MultiConnectorMetrics.of(
        {name: CONNECTOR_FAMILIES[name]}, registry, model_name="m", engines=(0,)
    )
    make_stats = getattr(load(kind.stats[0]), kind.stats[1])
    for _ in range(HISTORIES):
        workers = []
        for _ in range(chance.randrange(1, 4)):
            workers.append(make_stats())
            kind.record(workers[-1], chance)
        merged = make_stats()
        mine = MultiConnectorStats()
        for worker in workers:
            mine.aggregate(
                MultiConnectorStats({name: pickle.loads(pickle.dumps(worker.to_dict()))})
            )
            merged = merged.aggregate(worker)
        if merged.is_empty():
            continue
        compare_figures(title, merged.reduce(), mine[name].reduce())
        theirs.observe(merged.to_dict(), 0)
        ours.observe(json.loads(json.dumps(mine.to_dict())), 0)
    shown = {
        key: value
        for key, value in read_series(registry).items()
        if key in read_series(REGISTRY) or value
    }
    expected = read_series(REGISTRY)
    for key in expected.keys() | shown.keys():
        their_value, our_value = expected.get(key), shown.get(key)
        is_near = their_value is not None and our_value is not None
        if not (is_near and math.isclose(their_value or 0, our_value or 0, rel_tol=1e-9)):
            compare(f"{title}: {key}", their_value, our_value)
    exporter: Any = ours[name]
    compare(f"{title}: refused", {}, exporter.refused)
    return len(expected)


def compare_figures(title: str, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Report each figure of the log that is missing here, or has another value."""
    for name, figure in theirs.items():
        if name.endswith(_TITLES_WITHOUT):
            continue
        if name not in ours:
            differ(f"{title}: reduce() has no {name!r}, but {sorted(ours)}")
        elif not math.isclose(figure, ours[name], rel_tol=1e-6, abs_tol=1.1e-3):
            compare(f"{title}: reduce() of {name!r}", figure, ours[name])


def main() -> None:
    """Compare all connectors."""
    chance = random.Random(SEED)
    for title, kind in KINDS.items():
        series = compare_kind(title, kind, chance)
        count(f"{title}: {HISTORIES} histories, {series} series")


if __name__ == "__main__":
    main()
