"""The families of LMCache 0.5: inside vLLM, and those of its cache controller.

The help texts are ours; what LMCache writes may differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mpmetrics.engines.families.family import Family

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mpmetrics.engines.families.family import Edges

_WORKER: Final = ("model_name", "worker_id", "role", "served_model_name")

_SECONDS: Final[Edges] = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
)
_PROFILE: Final[Edges] = tuple(1e-5 * 2**power for power in range(20))
_SPEED: Final[Edges] = (1, *(float(1 << power) for power in range(3, 17)))
_MILLISECONDS: Final[Edges] = (
    *(1, 5, 10, 20, 40, 60, 80, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10000),
)
_RATE: Final[Edges] = tuple(tenth / 10 for tenth in range(1, 11))
_MINUTES: Final[Edges] = (*(0, 1, 5, 10, 20, 40, 60, 80, 100, 250, 500, 750, 1000, 2500, 5000),)

_THREAD_STATES: Final = (
    ("total", "exist"),
    ("running", "run"),
    ("active", "have been active recently"),
)


def _counters(rollup: str, **meanings: str) -> Iterator[Family]:
    for name, meaning in meanings.items():
        yield Family(f"lmcache:{name}", "counter", _WORKER, meaning, rollup=rollup)


def _gauges(mode: str, rollup: str, **meanings: str) -> Iterator[Family]:
    for name, meaning in meanings.items():
        yield Family(f"lmcache:{name}", "gauge", _WORKER, meaning, mode, rollup=rollup)


def _histograms(buckets: Edges, **meanings: str) -> Iterator[Family]:
    for name, meaning in meanings.items():
        yield Family(
            f"lmcache:{name}", "histogram", _WORKER, meaning, buckets=buckets, rollup="merge"
        )


_CONTROLLER: Final = ("role",)


def _callbacks(mode: str, **meanings: str) -> Iterator[Family]:
    for family in _gauges(mode, "", **meanings):
        yield family._replace(in_files=False)


LMCACHE_FAMILIES: Final[Sequence[Family]] = (
    *_counters(
        "max",
        num_retrieve_requests="Requests for which tokens were retrieved",
        num_store_requests="Requests of which tokens were stored",
        num_lookup_requests="Lookups",
        num_requested_tokens="Tokens requested from the cache",
        num_hit_tokens="Tokens that were retrieved",
        num_stored_tokens="Tokens stored, including those evicted later",
        num_lookup_tokens="Tokens looked up",
        num_lookup_hits="Tokens that a lookup found",
        num_vllm_hit_tokens="Tokens that vLLM found in its own cache",
        num_prompt_tokens="Tokens of prompts",
    ),
    *_counters(
        "sum",
        num_remote_read_requests="Reads from the remote store",
        num_remote_read_bytes="Bytes read from the remote store",
        num_remote_write_requests="Writes to the remote store",
        num_remote_write_bytes="Bytes written to the remote store",
        local_cpu_evict_count="Evictions from the CPU's memory",
        local_cpu_evict_keys_count="Keys evicted from the CPU's memory",
        local_cpu_evict_failed_count="Evictions from the CPU's memory that failed",
        forced_unpin_count="Objects unpinned after their time limit",
    ),
    *_counters(
        "max",
        lookup_0_hit_requests="Lookups that found nothing",
        num_slow_retrieval_by_time="Retrievals that took too long",
        num_slow_retrieval_by_speed="Retrievals with too few tokens in a second",
    ),
    *_gauges(
        "livemostrecent",
        "min",
        retrieve_hit_rate="Share of tokens retrieved in the last interval; 1 without any",
        lookup_hit_rate="Share of tokens found in the last interval; 0 without any",
    ),
    *_gauges(
        "sum",
        "sum",
        local_cache_usage="Bytes used in the CPU's memory",
        remote_cache_usage="Bytes used in the remote store; never set",
        local_storage_usage="Bytes used on the local disk",
        active_memory_objs_count="Memory objects in use",
        pinned_memory_objs_count="Memory objects that are pinned",
    ),
    *_histograms(
        _SECONDS,
        time_to_retrieve="Seconds to retrieve a request's tokens",
        time_to_store="Seconds to store a request's tokens",
    ),
    *_histograms(
        _PROFILE,
        time_to_lookup="Seconds of a lookup",
        retrieve_process_tokens_time="Seconds of a retrieval spent on processing tokens",
        retrieve_broadcast_time="Seconds of a retrieval spent on sending to other ranks",
        retrieve_to_gpu_time="Seconds of a retrieval spent on copying to the GPU",
        remote_backend_batched_get_blocking_time="Seconds of waiting for a batch",
        instrumented_connector_batched_get_time="Seconds that a connector took for a batch",
        store_process_tokens_time="Seconds of a store spent on processing tokens",
        store_from_gpu_time="Seconds of a store spent on copying from the GPU",
        store_put_time="Seconds of a store spent on passing data to the backends",
    ),
    *_histograms(
        _SPEED,
        retrieve_speed="Tokens retrieved in a second",
        store_speed="Tokens stored in a second",
    ),
    *_histograms(_SECONDS, p2p_time_to_transfer="Seconds of a transfer from a peer"),
    *_histograms(_SPEED, p2p_transfer_speed="Tokens transferred from a peer in a second"),
    *_histograms(
        _MILLISECONDS,
        remote_time_to_get="Milliseconds of a read from the remote store",
        remote_time_to_put="Milliseconds of a write to the remote store",
        remote_time_to_get_sync="Milliseconds of a blocking read",
    ),
    *_histograms(_RATE, request_cache_hit_rate="Share of a prompt that was found, if any"),
    *_histograms(
        _MINUTES, request_cache_lifespan="Minutes for which the data of a request were kept"
    ),
    *_gauges(
        "livemostrecent", "max", remote_ping_latency="Milliseconds of the last ping; 0 afterwards"
    ),
    *_counters(
        "sum",
        remote_ping_errors="Pings of the remote store that failed",
        remote_ping_successes="Pings of the remote store that succeeded",
    ),
    *_gauges(
        "livemostrecent", "max", remote_ping_error_code="Error code of the last ping; 0 afterwards"
    ),
    *_callbacks(
        "livemostrecent",
        local_cpu_hot_cache_count="Objects in the CPU's memory",
        local_cpu_keys_in_request_count="Keys that requests use",
        kv_msg_queue_size="Messages about the cache that wait",
        remote_put_task_num="Writes to the remote store that wait",
        pin_monitor_pinned_objects_count="Pinned objects that the monitor watches",
        lmcache_is_healthy="1 while LMCache is healthy",
        get_blocking_failed_count="Reads that have failed",
        put_failed_count="Writes that have failed",
    ),
    *_callbacks(
        "sum",
        storage_events_ongoing_count="Storage operations under way",
        storage_events_done_count="Storage operations that are done",
        storage_events_not_found_count="Storage operations whose object was not found",
    ),
    *_callbacks(
        "livemostrecent",
        chunk_statistics_enabled="1 while statistics of chunks are kept",
        chunk_statistics_total_requests="Requests in the statistics of chunks",
        chunk_statistics_total_chunks="Chunks in the statistics",
        chunk_statistics_unique_chunks="Distinct chunks in the statistics, estimated",
        chunk_statistics_reuse_rate="Share of chunks that were seen before",
        chunk_statistics_bloom_filter_size_mb="Megabytes of the filter of chunks seen",
        chunk_statistics_bloom_filter_fill_rate="Share of the filter that is full",
        chunk_statistics_file_count="Files written by the statistics of chunks",
        chunk_statistics_current_file_size="Bytes of the file being written",
        scheduler_unfinished_requests_count="Requests that the scheduler has not finished",
        connector_load_specs_count="Requests with tokens to load",
        connector_request_trackers_count="Requests that the connector tracks",
        connector_kv_caches_count="Layers whose cache the connector knows",
        connector_layerwise_retrievers_count="Retrievals, layer by layer, under way",
        connector_invalid_block_ids_count="Blocks that could not be loaded",
        connector_requests_priority_count="Requests with a priority",
    ),
    *_callbacks(
        "livemostrecent",
        **{
            f"periodic_threads_{state}_count": f"Periodic threads that {what}"
            for state, what in _THREAD_STATES
        },
    ),
    *_callbacks(
        "livemostrecent",
        **{
            f"periodic_threads_{level}_{state}": f"Periodic threads of level {level} that {what}"
            for level in ("critical", "high", "medium", "low")
            for state, what in _THREAD_STATES
        },
    ),
    *(
        Family(
            f"lmcache:cache_controller_{name}",
            "gauge",
            _CONTROLLER,
            meaning,
            "livemostrecent",
            in_files=False,
            condition="the cache controller, a server of its own",
        )
        for name, meaning in (
            ("kv_pool_keys_count", "Keys that the controller knows"),
            ("registered_workers_count", "Workers that have registered"),
            ("pull_socket_message_count", "Messages received on the socket PULL"),
            ("reply_socket_message_count", "Messages received on the socket REPLY"),
            ("pull_socket_has_pending", "1 while messages wait on the socket PULL"),
            ("reply_socket_has_pending", "1 while messages wait on the socket REPLY"),
            ("pull_socket_active_requests", "Requests of the socket PULL being worked on"),
            ("reply_socket_active_requests", "Requests of the socket REPLY being worked on"),
            ("kv_op_seq_discontinuity_count", "Gaps in the numbers of operations"),
            ("full_sync_workers_syncing", "Workers that send all of their keys"),
            ("full_sync_workers_completed", "Workers that have sent all of their keys"),
            ("full_sync_global_progress", "Share of the full sync that is done, 0 to 1"),
            ("full_sync_missing_batches_total", "Batches that are missing in full syncs"),
        )
    ),
)
