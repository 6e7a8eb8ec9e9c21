"""The families of the connectors of vLLM 0.33, with the keys of the numbers that they send.

LMCache's connector for vLLM is among them. The help texts are ours. Where no keys are given, the
names are the keys: the offloading connectors send their numbers by name of the metric.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from mpmetrics.engines.connectors.families import ConnectorFamily, ConnectorSummary, FamilyCopy

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Edges = tuple[float, ...]
    Families = tuple[ConnectorFamily, ...]

_XFER: Final[Edges] = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 5)
_POST: Final[Edges] = (0.001, *_XFER)
_BYTES: Final[Edges] = tuple(float(1 << power) for power in range(11, 34, 2))
_DESCRIPTORS: Final[Edges] = (
    *(10, 20, 30, 50, 75, 100, 200, 400, 1000, 2000, 4000, 10000, 20000, 50000),
)
_STORE: Final[Edges] = (
    *(0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 3, 4),
)
_SIZES: Final[Edges] = (1e6, 5e6, 10e6, 20e6, 40e6, 60e6, 80e6, 100e6, 150e6, 200e6)
_SYNC: Final[Edges] = (1e-5, 5e-5, 1e-4, 5e-4, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1)
_ASYNC: Final[Edges] = (1e-4, 5e-4, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
_ALLOCATION: Final[Edges] = tuple(float(4**power) for power in range(10))
_HF3FS: Final[Edges] = (0.001, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 5)
_RESIDENCY: Final[Edges] = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60),
    *(120, 300, 600, 1200, 1800),
)
_DEFAULT: Final[Edges] = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
)
"""The buckets of prometheus_client, for a histogram that is made without any."""
_PROMOTION: Final[Edges] = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

_MS: Final = 1e3
_MB: Final = 1 / (1 << 20)


def _counters(prefix: str, labels: tuple[str, ...] = (), **meanings: str) -> Families:
    return tuple(
        ConnectorFamily(f"{prefix}{name}", "counter", meaning, labels)
        for name, meaning in meanings.items()
    )


def _gauges(prefix: str, labels: tuple[str, ...] = (), **meanings: str) -> Families:
    return tuple(
        ConnectorFamily(f"{prefix}{name}", "gauge", meaning, labels)
        for name, meaning in meanings.items()
    )


def _histograms(
    prefix: str, buckets: Edges, labels: tuple[str, ...] = (), **meanings: str
) -> Families:
    return tuple(
        ConnectorFamily(f"{prefix}{name}", "histogram", meaning, labels, buckets)
        for name, meaning in meanings.items()
    )


def _failures(name: str, meaning: str, keys: tuple[str, ...], title: str = "") -> ConnectorFamily:
    """Return a counter whose numbers are sent as a list with an entry for each failure."""
    summaries = (ConnectorSummary(title, "sum"),) if title else ()
    return ConnectorFamily(name, "counter", meaning, keys=keys, listed=True, summaries=summaries)


def _transfers(prefix: str) -> Families:
    """Return the families that NIXL and Mooncake share: a list for each property of a transfer."""
    return (
        ConnectorFamily(
            f"{prefix}xfer_time_seconds",
            "histogram",
            "Duration of a transfer",
            buckets=_XFER,
            keys=("transfer_duration",),
            listed=True,
            summaries=(
                ConnectorSummary("Num successful transfers", "count"),
                ConnectorSummary("Avg xfer time (ms)", "mean", _MS),
                ConnectorSummary("P90 xfer time (ms)", "p90", _MS),
            ),
        ),
        ConnectorFamily(
            f"{prefix}bytes_transferred",
            "histogram",
            "Bytes of a transfer",
            buckets=_BYTES,
            keys=("bytes_transferred",),
            listed=True,
            summaries=(
                ConnectorSummary("Avg MB per transfer", "mean", _MB),
                ConnectorSummary("Throughput (MB/s)", "sum", _MB, per="transfer_duration"),
            ),
        ),
        ConnectorFamily(
            f"{prefix}num_descriptors",
            "histogram",
            "Descriptors of a transfer",
            buckets=_DESCRIPTORS,
            keys=("num_descriptors",),
            listed=True,
            summaries=(ConnectorSummary("Avg number of descriptors", "mean", digits=1),),
        ),
    )


NIXL: Final[Families] = (
    *_transfers("vllm:nixl_"),
    ConnectorFamily(
        "vllm:nixl_post_time_seconds",
        "histogram",
        "Time that it took to post a transfer",
        buckets=_POST,
        keys=("post_duration",),
        listed=True,
        summaries=(
            ConnectorSummary("Avg post time (ms)", "mean", _MS),
            ConnectorSummary("P90 post time (ms)", "p90", _MS),
        ),
    ),
    _failures(
        "vllm:nixl_num_failed_transfers",
        "Transfers, handshakes and notifications that have failed",
        ("num_failed_transfers", "num_failed_handshakes", "num_failed_notifications"),
        "Num failed transfers",
    ),
    _failures(
        "vllm:nixl_num_failed_notifications",
        "Notifications that have failed",
        ("num_failed_notifications",),
    ),
    _failures(
        "vllm:nixl_num_kv_expired_reqs",
        "Requests whose KV cache was not fetched in time",
        ("num_kv_expired_reqs",),
        "Num KV expired reqs",
    ),
    _failures(
        "vllm:nixl_num_notifications_after_expiry",
        "Notifications that came after the KV cache had expired",
        ("num_notifications_after_expiry",),
        "Num notifs after expiry",
    ),
)

MOONCAKE: Final[Families] = (
    *_transfers("vllm:mooncake_"),
    _failures(
        "vllm:mooncake_num_failed_transfers",
        "Transfers that have failed",
        ("num_failed_transfers",),
        "Num failed transfers",
    ),
    _failures(
        "vllm:mooncake_num_failed_recvs",
        "Requests that could not be received",
        ("num_failed_recvs",),
        "Num failed recvs",
    ),
    _failures(
        "vllm:mooncake_num_kv_expired_reqs",
        "Requests whose KV cache was not fetched in time",
        ("num_kv_expired_reqs",),
        "Num KV expired reqs",
    ),
)

MOONCAKE_STORE: Final[Families] = tuple(
    ConnectorFamily(
        f"vllm:mooncake_store_operation_{name}",
        "histogram" if buckets else "counter",
        meaning,
        ("operation", "status"),
        buckets,
        keys=(
            key,
            f"vllm:mooncake_store_operation_{name}",
            f"mooncake_store_operation_{name}",
        ),
        by_label=True,
        summaries=tuple(ConnectorSummary(f"{{}}_{title}", *how) for title, *how in summaries),
    )
    for name, key, buckets, meaning, summaries in (
        (
            "time_seconds",
            "duration_seconds",
            _STORE,
            "Duration of an operation of the store",
            (("count", "count"), ("avg_ms", "mean", _MS), ("p90_ms", "p90", _MS)),
        ),
        ("total", "records", (), "Operations of the store", ()),
        (
            "keys_total",
            "num_keys",
            (),
            "Keys of the operations of the store",
            (("total_keys", "sum"),),
        ),
        (
            "bytes_total",
            "num_bytes",
            (),
            "Bytes of the operations of the store",
            (("total_bytes", "sum"),),
        ),
        (
            "failed_keys_total",
            "num_failed_keys",
            (),
            "Keys with which an operation of the store has failed",
            (("failed_keys", "sum"),),
        ),
    )
)

_OFFLOAD: Final = "vllm:kv_offload_"
_TIERING: Final = "vllm:kv_offload_tiering_"
_KVCR: Final = "vllm:kvcr_"
_TIER: Final = ("tier",)
_DIRECTION: Final = ("transfer_type",)


def _copy_directions(measure: str) -> tuple[FamilyCopy, ...]:
    """Return the copies of a deprecated family: it shows loads and stores by direction."""
    return (
        FamilyCopy(f"{_OFFLOAD}load_{measure}", ("CPU_to_GPU",)),
        FamilyCopy(f"{_OFFLOAD}store_{measure}", ("GPU_to_CPU",)),
    )


OFFLOADING: Final[Families] = (
    *_counters(
        _OFFLOAD,
        load_bytes="Bytes loaded",
        load_time="Seconds spent on loading",
        store_bytes="Bytes stored",
        store_time="Seconds spent on storing",
        allocation_failure="Stores for which there was no room",
        stores_skipped="Stores of blocks that are not used often enough",
    ),
    *_histograms(_OFFLOAD, _SIZES, load_size="Bytes of a load", store_size="Bytes of a store"),
    *_histograms(_OFFLOAD, _SYNC, lookup_sync_delay_seconds="Duration of a lookup"),
    *_histograms(
        _OFFLOAD, _ASYNC, lookup_async_delay_seconds="Duration of a lookup in the background"
    ),
    *(
        replace(family, copies=_copy_directions(measure))
        for measure, family in zip(
            ("bytes", "time", "size"),
            (
                *_counters(
                    _OFFLOAD,
                    _DIRECTION,
                    total_bytes="Bytes moved; deprecated",
                    total_time="Seconds spent on moves; deprecated",
                ),
                *_histograms(_OFFLOAD, _SIZES, _DIRECTION, size="Bytes of a move; deprecated"),
            ),
            strict=True,
        )
    ),
    *_gauges(
        _OFFLOAD,
        cpu_cache_usage_perc="Share of the CPU's cache that is in use, 0 to 1",
        cpu_cache_write_usage_perc="Share of the CPU's cache that is being written, 0 to 1",
        cpu_cache_read_usage_perc="Share of the CPU's cache that is being read, 0 to 1",
    ),
    *_histograms(_OFFLOAD, _ALLOCATION, cpu_allocation_size="Blocks of an allocation of the CPU's"),
    *_histograms(
        _TIERING, _SYNC, _TIER, lookup_sync_delay_seconds="Duration of a lookup in a tier"
    ),
    *_histograms(
        _TIERING,
        _ASYNC,
        _TIER,
        lookup_async_delay_seconds="Duration of a lookup in a tier, in the background",
    ),
    *_counters(
        _TIERING,
        _TIER,
        read_bytes="Bytes read from a tier",
        read_time="Seconds spent on reading from a tier",
        write_bytes="Bytes written to a tier",
        write_time="Seconds spent on writing to a tier",
        promotion_job_failures="Promotions out of a tier that have failed",
        cascade_job_failures="Moves down to a tier that have failed",
        chunk_queries="Chunks looked for in a tier",
        chunk_hits="Chunks found in a tier",
        backpressure_stores_dropped="Stores dropped, since the tier is too slow",
        backpressure_blocks_dropped="Blocks not stored, since the tier is too slow",
    ),
    *_counters(_TIERING, promotion_allocation_failures="Promotions for which there was no room"),
    *_gauges(
        _TIERING,
        _TIER,
        primary_write_usage_perc="Share of the first tier that is being written, 0 to 1",
        primary_read_usage_perc="Share of the first tier that is being read, 0 to 1",
        active_promotion_jobs="Promotions under way",
        active_cascade_jobs="Moves down under way",
        backpressure_store_latency_ema="Mean duration of the last stores",
    ),
    *_histograms(
        _TIERING,
        _PROMOTION,
        (*_TIER, "result"),
        promotion_latency_seconds="Duration of a promotion",
    ),
    *_histograms(
        _KVCR, _DEFAULT, ("scope", "result"), duration_seconds="Duration of an operation of KVCR"
    ),
    *_counters(
        _KVCR,
        ("operation",),
        transfer_bytes="Bytes transferred by KVCR",
        transfer_blocks="Blocks transferred by KVCR",
    ),
    *_gauges(_KVCR, ("resource",), state="What KVCR has at the moment, by kind"),
)

SIMPLE_OFFLOADING: Final[Families] = (
    *_counters(
        "vllm:simple_kv_offload_",
        ("outcome",),
        save_outcomes_total="Saves, by their outcome",
    ),
    *_counters("vllm:simple_kv_offload_", load_blocks_total="Blocks loaded"),
    *_gauges(
        "vllm:simple_kv_offload_",
        used_blocks="Blocks in use",
        pending_store_blocks="Blocks that wait to be stored",
    ),
    *_gauges(
        "vllm:simple_kv_offload_",
        ("backend", "page_cache", "lazy_offload", "capacity_blocks"),
        info="Always 1, with the settings as labels",
    ),
)


HF3FS: Final[Families] = (
    *(
        ConnectorFamily(
            f"vllm:hf3fs_{operation}_duration_seconds",
            "histogram",
            f"Duration of a {operation}",
            buckets=_HF3FS,
            keys=(f"{operation}_duration",),
            listed=True,
            summaries=(
                ConnectorSummary(f"Num {operation} task success", "count"),
                ConnectorSummary(f"Avg {operation} duration (ms)", "mean", _MS),
                ConnectorSummary(f"P90 {operation} duration (ms)", "p90", _MS),
            ),
        )
        for operation in ("save", "load")
    ),
    *(
        ConnectorFamily(
            f"vllm:hf3fs_num_failed_{operation}",
            "counter",
            f"Number of each {operation} that has failed",
            keys=(f"num_failed_{operation}",),
            summaries=(ConnectorSummary(f"Num {operation} task failed", "sum"),),
        )
        for operation in ("save", "load")
    ),
)

HISPARSE: Final[Families] = (
    *(
        ConnectorFamily(
            f"vllm:hisparse_{name}",
            "counter",
            meaning,
            keys=(name,),
            listed=True,
            summaries=(ConnectorSummary(title, "sum"),),
        )
        for name, meaning, title in (
            ("cache_hits", "Pages found in the buffer on the device", "HiSparse hot-buffer hits"),
            (
                "cache_misses",
                "Pages missing in the buffer on the device",
                "HiSparse hot-buffer misses",
            ),
            (
                "host_to_device_bytes",
                "Bytes copied from the host to the buffer on the device",
                "HiSparse host-to-device bytes",
            ),
        )
    ),
    ConnectorFamily(
        "vllm:hisparse_host_cache_usage_perc",
        "gauge",
        "Share of the host's cache that is in use, 0 to 1",
        keys=("host_cache_usage_perc",),
        listed=True,
        summaries=(ConnectorSummary("HiSparse host KV cache usage %", "sum", 100, digits=1),),
    ),
    ConnectorFamily(
        "vllm:hisparse_pending_page_transfers",
        "gauge",
        "Transfers of pages that are under way",
        keys=("pending_page_transfers",),
        listed=True,
    ),
    *(
        ConnectorFamily(
            f"vllm:hisparse_{name}",
            "histogram",
            meaning,
            buckets=_RESIDENCY,
            keys=(name,),
            listed=True,
        )
        for name, meaning in (
            ("host_block_lifetime_seconds", "From a block's allocation to its eviction"),
            ("host_block_idle_before_evict_seconds", "From a block's last use to its eviction"),
            ("host_block_reuse_gap_seconds", "From one use of a block to the next"),
        )
    ),
)

UMBP: Final[Families] = tuple(
    ConnectorFamily(
        f"vllm:umbp_transfer_{name}_total",
        "counter",
        meaning,
        ("operation",),
        keys=(key,),
        by_label=True,
        summaries=(ConnectorSummary(f"{{}}_{key}", "sum"),),
    )
    for name, key, meaning in (
        ("submitted", "submitted", "Objects whose transfer was started"),
        ("completed", "completed", "Objects that were transferred"),
        ("failed", "failed", "Objects whose transfer has failed"),
        ("bytes", "num_bytes", "Bytes that were transferred"),
    )
)

LMCACHE_MP: Final[Families] = (
    ConnectorFamily(
        "vllm:lmcache_mp_lookup_duration_seconds",
        "histogram",
        "Duration of a lookup in LMCache's server",
        buckets=_DEFAULT,
        keys=("lookup_duration_seconds",),
        listed=True,
        summaries=(
            ConnectorSummary("LMCache MP lookup count", "count"),
            ConnectorSummary("LMCache MP lookup avg latency (ms)", "mean", _MS),
        ),
    ),
)

LOG_ONLY: Final[Mapping[str, str]] = {"num_transfer_task": "Num transfers task"}
"""The titles, for the log, of numbers that connectors send and never show, by key."""

OFFLOAD_INFO: Final = f"{_OFFLOAD}config_info"
"""The family of settings of an offloading connector."""

OFFLOAD_SETTINGS: Final = (
    "cpu_num_chunks",
    "cpu_blocks_per_chunk",
    "cpu_kv_cache_size_bytes",
    "cpu_kv_cache_size_tokens",
)
"""The settings that vLLM's own offloading to the CPU sends; with tiers, `tier` comes after them."""


def offload_info(*settings: str) -> ConnectorFamily:
    """Return the family that shows the *settings* of an offloading connector as labels.

    *settings* are the names of the labels; they depend on the configuration of the connector.
    """
    meaning = "Always 1, with one more label for each setting"
    return ConnectorFamily(OFFLOAD_INFO, "gauge", meaning, settings)


def is_offloading(families: Iterable[ConnectorFamily]) -> bool:
    """Return whether any of *families* is that of an offloading connector with settings."""
    return any(family.name.startswith(_OFFLOAD) for family in families)


CONNECTOR_FAMILIES: Final[Mapping[str, Families]] = {
    "NixlPullConnector": NIXL,
    "NixlPushConnector": NIXL,
    "MooncakeConnector": MOONCAKE,
    "MooncakeStoreConnector": MOONCAKE_STORE,
    "OffloadingConnector": OFFLOADING,
    "SimpleCPUOffloadConnector": SIMPLE_OFFLOADING,
    "HF3FSKVConnector": HF3FS,
    "HiSparseConnector": HISPARSE,
    "UMBPStoreConnector": UMBP,
    "LMCacheMPConnector": LMCACHE_MP,
}
"""The families by the name of the connector's class."""

ALIASES: Final[Mapping[str, str]] = {"NixlConnector": "NixlPullConnector"}
"""Other names of those classes, and the names in `CONNECTOR_FAMILIES` that they stand for."""


def abbreviate_families(families: Families) -> Families | str:
    """Return the class name that stands for known *families*, or unknown *families* unchanged.

    Statistics are pickled at every step of an engine, and a name is short.
    """
    known = (name for name, known in CONNECTOR_FAMILIES.items() if known == families)
    return next(known, families)


def expand_families(sent: Families | str) -> Families:
    """Return the families that `abbreviate_families` has abbreviated."""
    return CONNECTOR_FAMILIES[sent] if isinstance(sent, str) else sent
