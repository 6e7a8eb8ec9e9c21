"""The metrics of connectors: valid numbers are shown, and invalid ones are counted."""

from __future__ import annotations

import json
import logging
import pickle
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest

from mpmetrics.engines import (
    CONNECTOR_FAMILIES,
    ConnectorFamily,
    ConnectorMetrics,
    MultiConnectorMetrics,
    MultiConnectorStats,
    offload_info,
)
from mpmetrics.engines.observers import ERRORS
from tests.engines.connectors.fakes import FakeConnector, ForeignStats, nixl, series, stats

JOBS = ConnectorFamily("jobs", "counter", "Jobs")
TIME = ConnectorFamily("time", "histogram", "Seconds", buckets=(1, 10))
FILLED = ConnectorFamily("filled", "histogram", buckets=(1, 10), merge="bucketed")
LEVEL = ConnectorFamily("level", "gauge", "Level")
KINDS = ConnectorFamily("kinds", "counter", labels=("kind",))


@pytest.fixture
def registry() -> CollectorRegistry:
    """Return an empty registry."""
    return CollectorRegistry()


class Exporter:
    """An exporter that notes what it is to show, or raises."""

    def __init__(self, error: Exception | None = None) -> None:
        """Raise *error* at each call, if it is not None."""
        self.observed: list[Any] = []
        self._error = error

    def observe(self, data: Any, engine_idx: int = 0) -> None:
        """Note the data, and raise the error if there is one."""
        self.observed.append((data, engine_idx))
        if self._error is not None:
            raise self._error


# -- One connector ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("merge", "numbers", "shown"),
    [("latest", (5, 3), 3), ("max", (3, 2), 2), ("sum", (5, 3), 3)],
)
def test_a_gauge_shows_the_interval(
    registry: CollectorRegistry, merge: str, numbers: tuple[int, ...], shown: int
) -> None:
    """A gauge shows the number of the last interval, whatever its merge."""
    metrics = ConnectorMetrics([ConnectorFamily("level", "gauge", merge=merge)], registry)
    for number in numbers:
        metrics.observe({"level": number})
    assert series(registry) == {"level{model_name=,engine=0}": shown}


@pytest.mark.parametrize(("merge", "shown"), [("latest", 1), ("max", 4), ("sum", 7)])
def test_a_gauge_of_several_reports(registry: CollectorRegistry, merge: str, shown: int) -> None:
    """The reports of one interval merge as the gauge declares."""
    family = ConnectorFamily("level", "gauge", merge=merge)
    merged = MultiConnectorStats(families={"X": [family]})
    for number in (2, 4, 1):
        merged.aggregate(MultiConnectorStats({"X": {"level": number}}, {"X": [family]}))
    MultiConnectorMetrics.of({"X": [family]}, registry).observe(merged)
    assert series(registry) == {"level{model_name=,engine=0}": shown}


def test_counters_and_histograms_accumulate(registry: CollectorRegistry) -> None:
    """Counters and histograms add numbers, lists and statistics of each interval."""
    metrics = ConnectorMetrics([JOBS, TIME], registry)
    for data in ({"jobs": 2, "time": [0.5]}, {"data": {"jobs": [1, 1]}}, stats(time=[5, 50])):
        metrics.observe(data, 1)
    metrics.observe(ForeignStats(jobs=[1.0]), 1)
    metrics.observe(None)
    assert series(registry) == {
        "jobs_total{model_name=,engine=1}": 5,
        "time_bucket{model_name=,engine=1,le=1.0}": 1,
        "time_bucket{model_name=,engine=1,le=10.0}": 2,
        "time_bucket{model_name=,engine=1,le=+Inf}": 3,
        "time_count{model_name=,engine=1}": 3,
        "time_sum{model_name=,engine=1}": 55.5,
    }
    assert not metrics.refused


def test_buckets_on_the_wire(registry: CollectorRegistry) -> None:
    """Buckets that were counted elsewhere give the same series as observations here."""
    observed = CollectorRegistry()
    durations = [0.5, 1, 2, 20]
    there = ConnectorMetrics([FILLED], registry)
    there.observe({"filled": [2, 1, 1, 23.5]})
    there.observe({"filled": [0, 0, 0, 0]})
    there.observe({"filled": []})
    here = ConnectorFamily("filled", "histogram", buckets=(1, 10))
    ConnectorMetrics([here], observed).observe({"filled": durations})
    assert series(registry) == series(observed)
    assert not there.refused


def test_series_from_the_start(registry: CollectorRegistry) -> None:
    """Families without labels of their own have a series at 0 for each engine from the start."""
    ConnectorMetrics([JOBS, KINDS], registry, model_name="m", engines=(0, "1"), connector="c")
    assert series(registry) == {
        "jobs_total{model_name=m,engine=0,connector=c}": 0,
        "jobs_total{model_name=m,engine=1,connector=c}": 0,
    }


def test_the_failures_of_nixl(registry: CollectorRegistry) -> None:
    """A failure of NIXL counts in each family that has its key."""
    metrics = ConnectorMetrics(CONNECTOR_FAMILIES["NixlPullConnector"], registry)
    metrics.observe(
        nixl(
            1.5,
            num_failed_transfers=[1.0],
            num_failed_handshakes=[1.0],
            num_failed_notifications=[1.0],
            num_kv_expired_reqs=[1.0],
            num_notifications_after_expiry=[1.0],
        )
    )
    found = series(registry)
    counters = {name: value for name, value in found.items() if "_total{" in name}
    assert counters == {
        "vllm:nixl_num_failed_transfers_total{model_name=,engine=0}": 3,
        "vllm:nixl_num_failed_notifications_total{model_name=,engine=0}": 1,
        "vllm:nixl_num_kv_expired_reqs_total{model_name=,engine=0}": 1,
        "vllm:nixl_num_notifications_after_expiry_total{model_name=,engine=0}": 1,
    }
    assert found["vllm:nixl_xfer_time_seconds_sum{model_name=,engine=0}"] == 1.5
    assert not metrics.refused


def test_the_data_of_offloading(registry: CollectorRegistry) -> None:
    """The data of offloading, by name of the metric and with labels, are shown."""
    families = (*CONNECTOR_FAMILIES["OffloadingConnector"], offload_info("spec"))
    metrics = ConnectorMetrics(families, registry, model_name="m")
    metrics.observe(
        {
            "types": {"vllm:kv_offload_load_bytes": "counter"},
            "data": {
                "vllm:kv_offload_load_bytes": {(): 5},
                "vllm:kv_offload_total_bytes": {("CPU_to_GPU",): 7},
                "vllm:kv_offload_tiering_promotion_latency_seconds": {("disk", "ok"): [0.2]},
                "vllm:kv_offload_config_info": {("cpu",): 1},
            },
            "info": ["vllm:kv_offload_config_info"],
        }
    )
    found = series(registry)
    assert found["vllm:kv_offload_load_bytes_total{model_name=m,engine=0}"] == 5
    direction = "model_name=m,engine=0,transfer_type=CPU_to_GPU"
    assert found[f"vllm:kv_offload_total_bytes_total{{{direction}}}"] == 7
    tier = "model_name=m,engine=0,tier=disk,result=ok"
    assert found[f"vllm:kv_offload_tiering_promotion_latency_seconds_count{{{tier}}}"] == 1
    assert found["vllm:kv_offload_config_info{model_name=m,engine=0,spec=cpu}"] == 1
    assert not metrics.refused


SETTINGS = {
    "cpu_num_chunks": 512,
    "cpu_blocks_per_chunk": 4,
    "cpu_kv_cache_size_bytes": 8589934592,
    "cpu_kv_cache_size_tokens": None,
}
"""Settings as vLLM sends them; the last one is not known."""

SHOWN = (
    "vllm:kv_offload_config_info{model_name=m,engine=1,cpu_num_chunks=512,cpu_blocks_per_chunk=4,"
    "cpu_kv_cache_size_bytes=8589934592,cpu_kv_cache_size_tokens="
)


def offload(**sent: Any) -> dict[str, Any]:
    """Return what vLLM's offloading connector sends of one interval."""
    return {"types": dict.fromkeys(sent.get("data", {}), "counter"), "data": {}, **sent}


@pytest.mark.parametrize("is_merged", [False, True], ids=["direct", "merged"])
def test_the_settings_of_offloading(registry: CollectorRegistry, *, is_merged: bool) -> None:
    """Settings, which an engine sends once, are shown with all their labels, even after merges."""
    metrics = MultiConnectorMetrics.of(
        {"OffloadingConnector": CONNECTOR_FAMILIES["OffloadingConnector"]}, registry, model_name="m"
    )
    sent = {"OffloadingConnector": offload(info=[SETTINGS])}
    if is_merged:
        worker = MultiConnectorStats.build({"OffloadingConnector": offload()})
        scheduler = MultiConnectorStats.build(sent)
        worker.aggregate(pickle.loads(pickle.dumps(scheduler)))
        worker.aggregate(MultiConnectorStats.build({"OffloadingConnector": offload()}))
        assert not worker.is_empty()
        sent = json.loads(json.dumps(worker.to_dict()))
        worker.reset()
        assert worker.is_empty()
    metrics.observe(sent, 1)
    assert series(registry)[f"{SHOWN}}}"] == 1
    assert not metrics.refused


def test_the_settings_of_tiers(registry: CollectorRegistry) -> None:
    """With tiers there is a series for each, with the label `tier`; what one lacks is empty."""
    metrics = ConnectorMetrics(
        CONNECTOR_FAMILIES["OffloadingConnector"], registry, model_name="m", engines=(0, 1)
    )
    tiers = [{**SETTINGS, "tier": "0_cpu"}, {"tier": "1_fs", "root": "/kv"}]
    metrics.observe(offload(info=tiers), 1)
    found = {name: each for name, each in series(registry).items() if "config_info" in name}
    assert found == {
        f"{SHOWN},tier=0_cpu,root=}}": 1,
        "vllm:kv_offload_config_info{model_name=m,engine=1,cpu_num_chunks=,cpu_blocks_per_chunk=,"
        "cpu_kv_cache_size_bytes=,cpu_kv_cache_size_tokens=,tier=1_fs,root=/kv}": 1,
    }
    metrics.observe(offload(info=[{"tier": "1_fs", "root": "/kv", "later": 1}]), 1)
    assert metrics.refused == {("info: later", "labels"): 1}


def test_settings_with_declared_labels(registry: CollectorRegistry) -> None:
    """Settings without a declared label are left out, and counted; missing ones are empty."""
    families = (*CONNECTOR_FAMILIES["OffloadingConnector"], offload_info("spec", "depth"))
    metrics = ConnectorMetrics(families, registry)
    metrics.observe(offload(info=[{"spec": "cpu", "color": "red"}]))
    metrics.observe(offload(info="nonsense"))
    metrics.observe(offload(info=7))
    metrics.observe(offload(info=[7]))
    label = "model_name=,engine=0,spec=cpu,depth="
    assert series(registry)[f"vllm:kv_offload_config_info{{{label}}}"] == 1
    assert metrics.refused == {("info: color", "labels"): 1, ("info", "no number"): 2}


def test_settings_of_another_connector(registry: CollectorRegistry) -> None:
    """Settings of a connector that has no family for them are counted."""
    metrics = ConnectorMetrics([JOBS], registry)
    metrics.observe({"data": {"jobs": 1}, "info": [SETTINGS]})
    assert series(registry)["jobs_total{model_name=,engine=0}"] == 1
    assert metrics.refused == {("info", "unknown"): 1}


def test_deprecated_families_of_offloading(registry: CollectorRegistry) -> None:
    """The families by direction, which are deprecated, show loads and stores, and 0 before."""
    metrics = ConnectorMetrics(
        CONNECTOR_FAMILIES["OffloadingConnector"], registry, model_name="m", engines=(0,)
    )

    def by_direction() -> dict[str, float]:
        names = ("total_bytes_total", "total_time_total", "size_count", "size_sum")
        return {
            f"{name} {way}": found[
                f"vllm:kv_offload_{name}{{model_name=m,engine=0,transfer_type={way}}}"
            ]
            for found in [series(registry)]
            for name in names
            for way in ("CPU_to_GPU", "GPU_to_CPU")
        }

    assert set(by_direction().values()) == {0}
    for _ in range(2):
        data = {
            "vllm:kv_offload_load_bytes": {(): 300},
            "vllm:kv_offload_load_time": {(): 0.5},
            "vllm:kv_offload_load_size": {(): [100, 200]},
            "vllm:kv_offload_store_bytes": {(): 40},
            "vllm:kv_offload_store_time": {(): 0.25},
            "vllm:kv_offload_store_size": {(): [40]},
        }
        metrics.observe(offload(data=data))
    assert by_direction() == {
        "total_bytes_total CPU_to_GPU": 600,
        "total_bytes_total GPU_to_CPU": 80,
        "total_time_total CPU_to_GPU": 1.0,
        "total_time_total GPU_to_CPU": 0.5,
        "size_count CPU_to_GPU": 4,
        "size_count GPU_to_CPU": 2,
        "size_sum CPU_to_GPU": 600,
        "size_sum GPU_to_CPU": 80,
    }
    assert not metrics.refused


@pytest.mark.parametrize(
    ("connector", "sent", "shown"),
    [
        pytest.param(
            "HF3FSKVConnector",
            {
                "save_duration": [0.2, 0.002],
                "load_duration": [],
                "num_failed_save": 0,
                "num_failed_load": 3,
                "num_transfer_task": 5,
            },
            {
                "vllm:hf3fs_save_duration_seconds_count{}": 2,
                "vllm:hf3fs_num_failed_save_total{}": 0,
                "vllm:hf3fs_num_failed_load_total{}": 3,
            },
            id="hf3fs",
        ),
        pytest.param(
            "HiSparseConnector",
            {
                "cache_hits": [3, 4],
                "cache_misses": [],
                "host_to_device_bytes": [512],
                "host_cache_usage_perc": [0.75, 0.5],
                "pending_page_transfers": [],
                "host_block_lifetime_seconds": [2.0],
                "host_block_idle_before_evict_seconds": [],
                "host_block_reuse_gap_seconds": [],
            },
            {
                "vllm:hisparse_cache_hits_total{}": 7,
                "vllm:hisparse_host_to_device_bytes_total{}": 512,
                "vllm:hisparse_host_cache_usage_perc{}": 0.5,
                "vllm:hisparse_host_block_lifetime_seconds_count{}": 1,
            },
            id="hisparse",
        ),
        pytest.param(
            "UMBPStoreConnector",
            {"save": {"submitted": 4, "completed": 2, "failed": 1, "num_bytes": 64}},
            {
                "vllm:umbp_transfer_submitted_total{operation=save}": 4,
                "vllm:umbp_transfer_completed_total{operation=save}": 2,
                "vllm:umbp_transfer_failed_total{operation=save}": 1,
                "vllm:umbp_transfer_bytes_total{operation=save}": 64,
            },
            id="umbp",
        ),
        pytest.param(
            "MooncakeStoreConnector",
            {
                "save_put": [
                    {
                        "duration_seconds": 0.2,
                        "num_keys": 4,
                        "num_bytes": 64,
                        "status": status,
                        "num_failed_keys": failed,
                    }
                    for status, failed in (("ok", 0), ("error", 3), ("ok", 0))
                ],
            },
            {
                "vllm:mooncake_store_operation_time_seconds_count{operation=save_put,status=ok}": 2,
                "vllm:mooncake_store_operation_total{operation=save_put,status=ok}": 2,
                "vllm:mooncake_store_operation_total{operation=save_put,status=error}": 1,
                "vllm:mooncake_store_operation_keys_total{operation=save_put,status=ok}": 8,
                "vllm:mooncake_store_operation_bytes_total{operation=save_put,status=error}": 64,
                "vllm:mooncake_store_operation_failed_keys_total"
                "{operation=save_put,status=error}": 3,
            },
            id="mooncake-store",
        ),
        pytest.param(
            "LMCacheMPConnector",
            {"lookup_duration_seconds": [0.2]},
            {"vllm:lmcache_mp_lookup_duration_seconds_count{}": 1},
            id="lmcache",
        ),
    ],
)
@pytest.mark.parametrize("times", [1, 3], ids=["once", "merged"])
def test_what_connectors_send(
    registry: CollectorRegistry,
    connector: str,
    sent: dict[str, Any],
    shown: dict[str, float],
    times: int,
) -> None:
    """The numbers of each connector are shown in the form that it sends, merged or not."""
    metrics = MultiConnectorMetrics.of({connector: CONNECTOR_FAMILIES[connector]}, registry)
    merged = MultiConnectorStats()
    for _ in range(times):
        merged.aggregate(MultiConnectorStats.build({connector: sent}))
    metrics.observe(json.loads(json.dumps(merged.to_dict())))
    found = series(registry)
    for name, value in shown.items():
        own = name.replace("{", "{model_name=,engine=0,").replace(",}", "}")
        expected = value if name.startswith("vllm:hisparse_host_cache") else value * times
        assert found.get(own, 0) == expected, name
    exporter = metrics[connector]
    assert isinstance(exporter, ConnectorMetrics)
    assert not exporter.refused


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("data", "refused", "jobs"),
    [
        ({"jobs": [1, -1]}, {("jobs", "negative"): 1}, 1),
        ({"jobs": [1, NAN, INF]}, {("jobs", "not finite"): 2}, 1),
        ({"time": [NAN], "jobs": 1}, {("time", "not finite"): 1}, 1),
        ({"filled": [1, -1, 0, 1]}, {("filled", "negative"): 1}, 0),
        ({"filled": [1, 1, 0, NAN]}, {("filled", "not finite"): 1}, 0),
        ({"filled": [1, 1]}, {("filled", "no number"): 1}, 0),
        ({"jobs": "1"}, {("jobs", "no number"): 1}, 0),
        ({"jobs": {("a",): 1}}, {("jobs", "labels"): 1}, 0),
        ({"kinds": {("a", "b"): 1}, "jobs": 1}, {("kinds", "labels"): 1}, 1),
        ({"kinds": 1}, {("kinds", "labels"): 1}, 0),
        ({"other": 1, "jobs": 1}, {("other", "unknown"): 1}, 1),
        ({"other": []}, {}, 0),
        (1, {("", "no number"): 1}, 0),
    ],
    ids=str,
)
def test_invalid_numbers_are_counted(
    registry: CollectorRegistry, data: Any, refused: dict[tuple[str, str], int], jobs: int
) -> None:
    """Invalid numbers are counted by key and reason, and all others are shown."""
    metrics = ConnectorMetrics([JOBS, TIME, FILLED, KINDS], registry, engines=(0,))
    metrics.observe(data)
    assert metrics.refused == refused
    found = series(registry)
    assert found.pop("jobs_total{model_name=,engine=0}") == jobs
    assert {value for name, value in found.items() if "kind" not in name} <= {0}


class FullDisk(Counter):
    """A counter that cannot write its value."""

    def inc(self, *_: Any, **__: Any) -> None:
        """Raise."""
        raise OSError


def test_an_error_of_a_metric_is_counted(registry: CollectorRegistry) -> None:
    """An exception of a metric, as from a full disk, is counted, and the other keys are shown."""
    FullDisk("jobs", "Jobs", ["model_name", "engine"], registry=registry)
    metrics = ConnectorMetrics([JOBS, LEVEL], registry)
    metrics.observe({"jobs": 1, "level": 2})
    assert metrics.refused == {("jobs", "raised"): 1}
    assert series(registry)["level{model_name=,engine=0}"] == 2


def test_unknown_keys_do_not_fill_the_memory(registry: CollectorRegistry) -> None:
    """From the 1000th entry on, rejections of new keys are counted together."""
    metrics = ConnectorMetrics([JOBS], registry)
    metrics.observe({f"key {number}": 1 for number in range(3000)})
    assert sum(metrics.refused.values()) == 3000
    assert len(metrics.refused) <= 1001


def test_rejections_are_logged_once(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """A reason is logged at its first rejection; the errors of observers count every one."""
    metrics = ConnectorMetrics([JOBS], registry, owner="Logged")
    with caplog.at_level(logging.WARNING, "mpmetrics"):
        for _ in range(3):
            metrics.observe({"jobs": -1})
    (record,) = caplog.records
    assert "connector Logged" in record.getMessage()
    assert ERRORS.counts()["connector Logged", "negative"] == 3


def test_a_family_that_is_declared_twice_counts_once() -> None:
    """A family that is declared twice, even with other help, counts each number once."""
    again = ConnectorFamily("jobs", "counter", "The same")
    for make in (ConnectorMetrics, lambda each, into: MultiConnectorMetrics.of({"X": each}, into)):
        registry = CollectorRegistry()
        data = {"jobs": 1}
        make([JOBS, again], registry).observe(data if make is ConnectorMetrics else {"X": data})
        assert series(registry) == {"jobs_total{model_name=,engine=0}": 1}


def test_empty_lists_show_nothing(registry: CollectorRegistry) -> None:
    """Empty lists create no series and are no rejections, even under unknown keys."""
    listed = ConnectorFamily("filled", "histogram", buckets=(1, 10), merge="bucketed", listed=True)
    metrics = ConnectorMetrics([JOBS, listed], registry)
    metrics.observe({"other": []})
    assert not metrics.refused
    assert series(registry) == {}


# -- Several connectors ----------------------------------------------------------------------------


def test_each_connector_gets_its_own_numbers() -> None:
    """An exporter gets its connector's flat numbers, by any name, with the number of the engine."""
    exporter = Exporter()
    metrics = MultiConnectorMetrics({"NixlConnector": exporter, "Other": Exporter()})
    for data in (
        {"NixlConnector": {"transfer_duration": [1.5]}},
        {"NixlPullConnector": {"data": {"transfer_duration": [1.5]}}},
        {"data": {"NixlConnector": {"data": {"transfer_duration": [1.5]}}}},
        MultiConnectorStats.build({"NixlConnector": {"transfer_duration": [1.5]}}),
    ):
        metrics.observe(data, 2)
    assert exporter.observed == [({"transfer_duration": [1.5]}, 2)] * 4
    assert metrics["NixlPullConnector"] is exporter
    assert not metrics.refused


def test_other_data_reach_the_exporter() -> None:
    """Data that are not statistics reach the exporter unchanged."""
    exporter = Exporter()
    MultiConnectorMetrics({"A": exporter}).observe({"A": 7})
    assert exporter.observed == [(7, 0)]


@pytest.mark.parametrize("has_exporter", [True, False])
def test_connectors_without_metrics_are_passed_over(*, has_exporter: bool) -> None:
    """Numbers of a connector without exporter are dropped, those of an unknown one counted."""
    exporter = Exporter()
    metrics = MultiConnectorMetrics({"A": None, **({"B": exporter} if has_exporter else {})})
    metrics.observe({"A": {"jobs": 1}, "B": {"jobs": 2}})
    assert exporter.observed == ([({"jobs": 2}, 0)] if has_exporter else [])
    assert metrics.refused == ({} if has_exporter else {("B", "unknown"): 1})


def test_a_connector_that_fails_costs_its_own_metrics() -> None:
    """An exporter that raises is counted by its name, and the others get their numbers."""
    last = Exporter()
    metrics = MultiConnectorMetrics({"A": Exporter(RuntimeError("no")), "B": last})
    metrics.observe({"A": {}, "B": {"jobs": 1}, "C": {}})
    assert last.observed == [({"jobs": 1}, 0)]
    assert metrics.refused == {("A", "raised"): 1, ("C", "unknown"): 1}


@pytest.mark.parametrize(
    ("data", "refused"),
    [(None, {}), ({}, {}), (5, {("", "no number"): 1}), ([1], {("", "no number"): 1})],
)
def test_data_of_the_wrong_type(data: Any, refused: dict[tuple[str, str], int]) -> None:
    """No data are accepted, and data of the wrong type are counted."""
    metrics = MultiConnectorMetrics({})
    metrics.observe(data)
    assert metrics.refused == refused


class Broken(ForeignStats):
    """Statistics that cannot be read."""

    def to_dict(self) -> dict[str, Any]:
        """Raise."""
        raise RuntimeError


def test_statistics_that_cannot_be_read(registry: CollectorRegistry) -> None:
    """Statistics that raise are counted, and all others are shown."""
    exporter = Exporter()
    several = MultiConnectorMetrics({"A": exporter, "B": exporter, "C": exporter})
    given = {"A": Broken(), "B": stats(jobs=1), "C": ForeignStats(jobs=[2])}
    for data in (MultiConnectorStats.build(given), given, Broken()):
        several.observe(data)
    assert exporter.observed == [({"jobs": 1}, 0), ({"jobs": [2]}, 0)] * 2
    assert several.refused == {("A", "raised"): 2, ("", "raised"): 1}
    one = ConnectorMetrics([JOBS], registry)
    one.observe(Broken())
    assert one.refused == {("", "raised"): 1}


def test_the_data_of_a_nested_composite() -> None:
    """The data of a nested composite reach the exporters of its connectors."""
    exporter = Exporter()
    metrics = MultiConnectorMetrics({"A": exporter})
    metrics.observe({"MultiConnector": {"A": {"jobs": 1}}})
    assert exporter.observed == [({"jobs": 1}, 0)]


def test_a_label_keeps_connectors_apart(registry: CollectorRegistry) -> None:
    """With the label `connector`, connectors that have names have their own series."""
    families = {"fast": [JOBS], "slow": [JOBS]}
    metrics = MultiConnectorMetrics.of(
        families, registry, model_name="m", engines=(0,), connector_label=True
    )
    metrics.observe({"fast": {"jobs": 1}, "slow": {"jobs": 2}})
    assert series(registry) == {
        "jobs_total{model_name=m,engine=0,connector=fast}": 1,
        "jobs_total{model_name=m,engine=0,connector=slow}": 2,
    }


def test_labels_that_utf8_cannot_encode(registry: CollectorRegistry) -> None:
    """A lone surrogate in a label is escaped, so that it costs no page and stays distinct."""
    metrics = ConnectorMetrics([KINDS], registry)
    kinds = [chr(0xDC80), chr(0xDC81), "ü"]
    metrics.observe({"kinds": {(kind,): number for number, kind in enumerate(kinds, 1)}})
    page = generate_latest(registry).decode()
    for label, value in ((r"\\udc80", 1), (r"\\udc81", 2), ("ü", 3)):
        assert f'kinds_total{{engine="0",kind="{label}",model_name=""}} {value}.0\n' in page


def test_without_the_label_connectors_share_a_series(registry: CollectorRegistry) -> None:
    """Without the label `connector`, connectors add to the same series."""
    metrics = MultiConnectorMetrics.of({"fast": [JOBS], "slow": [JOBS]}, registry)
    metrics.observe({"fast": {"jobs": 1}, "slow": {"jobs": 2}})
    assert series(registry) == {"jobs_total{model_name=,engine=0}": 3}


def test_from_connectors_to_the_page(registry: CollectorRegistry) -> None:
    """The numbers of several connectors of a class are on the page as their sum."""
    connectors = [
        FakeConnector(connector_families=(JOBS,), get_kv_connector_stats=stats(jobs=number))
        for number in (1, 2)
    ]
    metrics = MultiConnectorMetrics.of_connectors(connectors, registry)
    metrics.observe(MultiConnectorStats.drain(connectors))
    assert series(registry) == {"jobs_total{model_name=,engine=0}": 3}
