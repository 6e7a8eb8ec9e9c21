"""What engines emit: the families of vLLM and of LMCache, as data.

The tables follow vLLM 0.33 and LMCache 0.5 as they are inside vLLM. The words are ours, and what
an engine writes as help may differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics.engines.connectors import (
    MOONCAKE,
    MOONCAKE_STORE,
    NIXL,
    OFFLOADING,
    SIMPLE_OFFLOADING,
    offload_info,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mpmetrics.engines.connectors import ConnectorFamily

    Edges = tuple[float, ...]


class Family(NamedTuple):
    """One family: its *name* and *type* as prometheus_client is given them, *labels* and *help*.

    A gauge has the *mode* by which several processes are merged, a histogram has *buckets*. Where
    each worker of an engine counts the same, *rollup* is what to do over `worker_id`: "max" where
    all see the same, "sum" where each has its own share, "min" for the worst of some rates, and
    "merge" for histograms. What is not *in_files* is asked for by a callback, which never gets
    into the files of a multiprocess directory. A *condition* names what has to be switched on.
    """

    name: str
    type: str
    labels: tuple[str, ...]
    help: str
    mode: str = ""
    buckets: tuple[float, ...] = ()
    rollup: str = ""
    in_files: bool = True
    condition: str = ""


# -- vLLM ------------------------------------------------------------------------------------------


def token_edges(most: int) -> Edges:
    """Return the buckets of a histogram of tokens: 1, 2, 5, 10 and so on, up to *most*."""
    edges = (digit * 10**power for power in range(len(str(most))) for digit in (1, 2, 5))
    return tuple(float(edge) for edge in edges if edge <= most)


MAX_MODEL_LEN: Final = 32_768
"""The longest context of the model, which vLLM's buckets of tokens go up to; a common one."""

_TOKENS: Final = token_edges(MAX_MODEL_LEN)
_ITERATION: Final[Edges] = (1, *(float(1 << power) for power in range(3, 15)))
_SAMPLES: Final[Edges] = (1, 2, 5, 10, 20)
_PREEMPTIONS: Final[Edges] = (1, 2, 3, 4, 5, 10, 20)
_TTFT: Final[Edges] = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
    *(20, 40, 80, 160, 640, 2560),
)
_ITL: Final[Edges] = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
    *(20, 40, 80),
)
_LATENCY: Final[Edges] = (
    *(0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60),
    *(120, 240, 480, 960, 1920, 7680),
)
_RESIDENCY: Final[Edges] = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60),
    *(120, 300, 600, 1200, 1800),
)
_OPERATION: Final[Edges] = (0.01, 0.1, 1, 10, 30, 60, 120, 300, 600)
_CONNECTION: Final[Edges] = (0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)

_ENGINE: Final = ("model_name", "engine")

KV_CONSUMER: Final = "a KV connector that loads"
_LORA: Final = "LoRA"
_NANS: Final = "`VLLM_COMPUTE_NANS_IN_LOGITS`"
_WATERMARKS: Final = "watermarks"
_KV_CACHE_METRICS: Final = "`--kv-cache-metrics`"
_SPECULATION: Final = "speculative decoding"
_DIFFUSION: Final = "a diffusion model"
_SLEEP_MODE: Final = "sleep mode, once it is used"
_RL: Final = "weight updates, once there are any"
_REALTIME: Final = "realtime transcription"
_TOOLS: Final = "a parser of tool calls"


def _counter(name: str, meaning: str, *more: str, condition: str = "") -> Family:
    return Family(f"vllm:{name}", "counter", (*_ENGINE, *more), meaning, condition=condition)


def _gauge(name: str, meaning: str, *more: str, condition: str = "") -> Family:
    labels = (*_ENGINE, *more)
    return Family(f"vllm:{name}", "gauge", labels, meaning, "mostrecent", condition=condition)


def _histogram(name: str, meaning: str, buckets: Edges, condition: str = "") -> Family:
    return Family(
        f"vllm:{name}", "histogram", _ENGINE, meaning, buckets=buckets, condition=condition
    )


_CONNECTORS: Final[Mapping[str, Iterable[ConnectorFamily]]] = {
    "NIXL": NIXL,
    "Mooncake": MOONCAKE,
    "Mooncake's store": MOONCAKE_STORE,
    "KV offloading": (*OFFLOADING, offload_info()),
    "simple KV offloading": SIMPLE_OFFLOADING,
}
"""What KV connectors declare, by the condition under which it is there."""


def _declared() -> Iterator[Family]:
    """Yield what KV connectors declare, with the labels that vLLM puts before theirs."""
    for condition, families in _CONNECTORS.items():
        for one in families:
            labels = (*_ENGINE, *one.labels)
            yield Family(
                *(one.name, one.type, labels, one.help, one.mode, one.buckets), condition=condition
            )


VLLM_FAMILIES: Final[Sequence[Family]] = (
    _gauge("num_requests_running", "Requests that are being worked on"),
    _gauge("num_requests_waiting", "Requests that wait, for whatever reason"),
    _gauge("num_requests_waiting_by_reason", "Requests that wait, by what for", "reason"),
    _gauge(
        "num_requests_kv_fetch_by_stage",
        "Requests whose KV cache comes from elsewhere, by how far that is",
        "stage",
        condition=KV_CONSUMER,
    ),
    _gauge("engine_sleep_state", "1 for the state in which the engine is", "sleep_state"),
    _gauge("kv_cache_usage_perc", "Share of the KV cache that is in use, 0 to 1"),
    Family(
        "vllm:lora_requests_info",
        "gauge",
        ("max_lora", "waiting_lora_adapters", "running_lora_adapters"),
        "Time at which these adapters were seen; of several processes it is a sum, so no time",
        "sum",
        condition=_LORA,
    ),
    Family(
        "vllm:cache_config_info",
        "gauge",
        ("engine",),
        "Always 1, with one more label for each setting of the KV cache",
        "mostrecent",
    ),
    _counter("corrupted_requests", "Requests with NaN among their logits", condition=_NANS),
    _counter("watermark_requests", "Requests by watermark", "status", condition=_WATERMARKS),
    _counter("prefix_cache_queries", "Tokens looked for in the local prefix cache"),
    _counter("prefix_cache_hits", "Tokens found in the local prefix cache"),
    _counter("external_prefix_cache_queries", "Tokens that a KV connector was asked for"),
    _counter("external_prefix_cache_hits", "Tokens that a KV connector has promised"),
    _counter("mm_cache_queries", "Items looked for in the multi-modal cache"),
    _counter("mm_cache_hits", "Items found in the multi-modal cache"),
    _counter("num_preemptions", "How often a request had to make room for another"),
    _counter("prompt_tokens", "Tokens of prompts, wherever they came from"),
    _counter("prompt_tokens_by_source", "Tokens of prompts, by where they came from", "source"),
    _counter("prompt_tokens_cached", "Tokens of prompts that were not computed"),
    _counter("prompt_tokens_cached_by_source", "Tokens found cached, by where", "source"),
    _counter("generation_tokens", "Tokens generated"),
    _counter("request_success", "Requests that are over, by how they ended", "finished_reason"),
    Family(
        "vllm:admission_rejections",
        "counter",
        ("model_name", "reason"),
        "Requests turned away because too much waited already",
    ),
    _histogram("request_prompt_tokens", "Tokens of a request's prompt", _TOKENS),
    _histogram("request_generation_tokens", "Tokens generated for a request", _TOKENS),
    _histogram(
        "request_max_num_generation_tokens", "Tokens of the longest answer to a request", _TOKENS
    ),
    _histogram("request_params_max_tokens", "Tokens that a request allowed", _TOKENS),
    _histogram(
        "request_prefill_kv_computed_tokens", "Tokens of a prompt that were not cached", _TOKENS
    ),
    _histogram(
        "iteration_tokens_total", "Tokens computed and generated in one iteration", _ITERATION
    ),
    _histogram("request_params_n", "Answers that a request asked for", _SAMPLES),
    _histogram("request_num_preemptions", "How often a request was preempted", _PREEMPTIONS),
    _histogram("time_to_first_token_seconds", "From arrival to the first token", _TTFT),
    _histogram("inter_token_latency_seconds", "From one token to the next", _ITL),
    _histogram(
        "request_time_per_output_token_seconds", "Mean time from token to token of a request", _ITL
    ),
    _histogram("e2e_request_latency_seconds", "From arrival to the last token", _LATENCY),
    _histogram("request_queue_time_seconds", "How long a request has waited", _LATENCY),
    _histogram("request_inference_time_seconds", "How long a request was worked on", _LATENCY),
    _histogram("request_prefill_time_seconds", "How long a prompt was worked on", _LATENCY),
    _histogram("request_decode_time_seconds", "From the first token to the last", _LATENCY),
    _histogram(
        "kv_block_lifetime_seconds", "From a block's first use on", _RESIDENCY, _KV_CACHE_METRICS
    ),
    _histogram(
        "kv_block_idle_before_evict_seconds",
        "From a block's last use to its eviction",
        _RESIDENCY,
        _KV_CACHE_METRICS,
    ),
    _histogram(
        "kv_block_reuse_gap_seconds",
        "From one use of a block to the next",
        _RESIDENCY,
        _KV_CACHE_METRICS,
    ),
    _counter("spec_decode_num_drafts", "Drafts made", condition=_SPECULATION),
    _counter("spec_decode_num_draft_tokens", "Tokens drafted", condition=_SPECULATION),
    _counter("spec_decode_num_accepted_tokens", "Drafted tokens accepted", condition=_SPECULATION),
    _counter(
        "spec_decode_num_accepted_tokens_per_pos",
        "Drafted tokens accepted, by their place in the draft",
        "position",
        condition=_SPECULATION,
    ),
    _counter("diffusion_num_denoising_steps", "Denoising steps", condition=_DIFFUSION),
    _counter("diffusion_num_canvas_positions", "Places denoised", condition=_DIFFUSION),
    _counter("diffusion_num_committed_tokens", "Tokens committed", condition=_DIFFUSION),
    _counter("estimated_flops_per_gpu_total", "Operations of a GPU, estimated"),
    _counter("estimated_read_bytes_per_gpu_total", "Bytes read by a GPU, estimated"),
    _counter("estimated_write_bytes_per_gpu_total", "Bytes written by a GPU, estimated"),
    *(
        family
        for name, what, condition in (
            ("sleep_mode", "operations of the sleep mode", _SLEEP_MODE),
            ("rl_weight_update", "operations that update weights", _RL),
        )
        for family in (
            Family(
                f"vllm:{name}_operation_duration_seconds",
                "histogram",
                ("operation",),
                f"Duration of {what}",
                buckets=_OPERATION,
                condition=condition,
            ),
            Family(
                f"vllm:{name}_operations_in_flight",
                "gauge",
                ("operation",),
                f"Number of {what} that are under way",
                "livesum",
                condition=condition,
            ),
        )
    ),
    Family(
        "vllm:websocket_connections_active",
        "gauge",
        (),
        "Connections that are open",
        "livesum",
        condition=_REALTIME,
    ),
    Family(
        "vllm:websocket_connections_total",
        "counter",
        (),
        "Connections opened",
        condition=_REALTIME,
    ),
    Family(
        "vllm:websocket_connection_duration_seconds",
        "histogram",
        (),
        "How long a connection was open",
        buckets=_CONNECTION,
        condition=_REALTIME,
    ),
    Family(
        "vllm:tool_call_parser_invocations_total",
        "counter",
        ("model_name", "mode", "outcome", "request_type"),
        "Answers that were looked through for calls of tools",
        condition=_TOOLS,
    ),
    *_declared(),
)


# -- LMCache inside vLLM ---------------------------------------------------------------------------

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


def _callbacks(mode: str, **meanings: str) -> Iterator[Family]:
    for family in _gauges(mode, "", **meanings):
        yield family._replace(in_files=False)


LMCACHE_FAMILIES: Final[Sequence[Family]] = (
    *_counters(
        "max",
        num_retrieve_requests="Requests for which tokens were retrieved",
        num_store_requests="Requests of which tokens were stored",
        num_lookup_requests="Lookups",
        num_requested_tokens="Tokens that were to be retrieved",
        num_hit_tokens="Tokens that were retrieved",
        num_stored_tokens="Tokens stored, those evicted since included",
        num_lookup_tokens="Tokens looked up",
        num_lookup_hits="Tokens that a lookup has found",
        num_vllm_hit_tokens="Tokens that vLLM had itself",
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
        forced_unpin_count="Objects unpinned because their time was up",
    ),
    *_counters(
        "max",
        lookup_0_hit_requests="Lookups that have found nothing",
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
        retrieve_process_tokens_time="Seconds of a retrieval spent with tokens",
        retrieve_broadcast_time="Seconds of a retrieval spent with sending to other ranks",
        retrieve_to_gpu_time="Seconds of a retrieval spent with copying to the GPU",
        remote_backend_batched_get_blocking_time="Seconds that a batch was waited for",
        instrumented_connector_batched_get_time="Seconds that a connector took for a batch",
        store_process_tokens_time="Seconds of a store spent with tokens",
        store_from_gpu_time="Seconds of a store spent with copying from the GPU",
        store_put_time="Seconds of a store spent with handing over",
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
        remote_time_to_get_sync="Milliseconds of a read that was waited for",
    ),
    *_histograms(_RATE, request_cache_hit_rate="Share of a prompt that was found, if any"),
    *_histograms(_MINUTES, request_cache_lifespan="Minutes that what a request stored was kept"),
    *_gauges("livemostrecent", "max", remote_ping_latency="Milliseconds of the last ping; then 0"),
    *_counters(
        "sum",
        remote_ping_errors="Pings of the remote store that failed",
        remote_ping_successes="Pings of the remote store that succeeded",
    ),
    *_gauges(
        "livemostrecent", "max", remote_ping_error_code="What the last ping has failed of; then 0"
    ),
    *_callbacks(
        "livemostrecent",
        local_cpu_hot_cache_count="Objects in the CPU's memory",
        local_cpu_keys_in_request_count="Keys that requests use",
        kv_msg_queue_size="Messages about the cache that wait",
        remote_put_task_num="Writes to the remote store that wait",
        pin_monitor_pinned_objects_count="Pinned objects that are watched",
        lmcache_is_healthy="1 while all is well",
        get_blocking_failed_count="Reads that have failed",
        put_failed_count="Writes that have failed",
    ),
    *_callbacks(
        "sum",
        storage_events_ongoing_count="Storage operations under way",
        storage_events_done_count="Storage operations that are done",
        storage_events_not_found_count="Storage operations that nobody knows",
    ),
    *_callbacks(
        "livemostrecent",
        chunk_statistics_enabled="1 while statistics of chunks are kept",
        chunk_statistics_total_requests="Requests in the statistics of chunks",
        chunk_statistics_total_chunks="Chunks in the statistics",
        chunk_statistics_unique_chunks="Different chunks in the statistics, estimated",
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
            for state, what in (
                ("total", "there are"),
                ("running", "run"),
                ("active", "have just done something"),
            )
        },
    ),
    *_callbacks(
        "livemostrecent",
        **{
            f"periodic_threads_{level}_{state}": f"Periodic threads of level {level} that {what}"
            for level in ("critical", "high", "medium", "low")
            for state, what in (
                ("total", "there are"),
                ("running", "run"),
                ("active", "have just done something"),
            )
        },
    ),
)

# -- A component of Dynamo, as the stat loggers here show it ---------------------------------------

_RANK: Final = ("model", "dynamo_component", "dp_rank")

DYNAMO_FAMILIES: Final[Sequence[Family]] = (
    Family("dynamo_component_total_blocks", "gauge", _RANK, "Blocks of the KV cache", "max"),
    Family(
        "dynamo_component_gpu_cache_usage_percent",
        "gauge",
        _RANK,
        "Share of the KV cache that is in use, 0 to 1",
        "max",
    ),
    Family(
        "dynamo_component_kv_cache_hit_rate",
        "gauge",
        _RANK,
        "Share of the tokens last looked for that the prefix cache had, 0 to 1",
        "max",
    ),
    Family(
        "dynamo_component_model_load_time_seconds",
        "gauge",
        _RANK[:2],
        "Time that it took to load the model",
        "max",
    ),
)
