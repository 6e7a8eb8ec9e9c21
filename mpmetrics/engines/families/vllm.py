"""The families of vLLM 0.33, its KV connectors included.

The help texts are ours; what vLLM writes may differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mpmetrics.engines.connectors import (
    HF3FS,
    HISPARSE,
    LMCACHE_MP,
    MOONCAKE,
    MOONCAKE_STORE,
    NIXL,
    OFFLOAD_SETTINGS,
    OFFLOADING,
    SIMPLE_OFFLOADING,
    UMBP,
    offload_info,
)
from mpmetrics.engines.families.family import Family

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mpmetrics.engines.connectors import ConnectorFamily
    from mpmetrics.engines.families.family import Edges


def token_edges(most: int) -> Edges:
    """Return the buckets of a histogram of tokens: 1, 2, 5, 10 and so on, up to *most*."""
    edges = (digit * 10**power for power in range(len(str(most))) for digit in (1, 2, 5))
    return tuple(float(edge) for edge in edges if edge <= most)


MAX_MODEL_LEN: Final = 32_768
"""The context length of a common model, up to which vLLM has buckets of tokens."""

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
_TOOLS: Final = "a tool call parser"
_LMCACHE_SERVER: Final = "LMCache as a server (`LMCacheMPConnector`)"


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
    "KV offloading": (*OFFLOADING, offload_info(*OFFLOAD_SETTINGS)),
    "simple KV offloading": SIMPLE_OFFLOADING,
    "HF3FS": HF3FS,
    "HiSparse": HISPARSE,
    "UMBP": UMBP,
    _LMCACHE_SERVER: LMCACHE_MP,
}
"""The families of KV connectors, by the condition under which they exist."""


def _connector_families() -> Iterator[Family]:
    """Yield the families of KV connectors, with vLLM's labels before their own."""
    for condition, families in _CONNECTORS.items():
        for one in families:
            labels = (*_ENGINE, *one.labels)
            yield Family(
                *(one.name, one.type, labels, one.help, one.mode, one.buckets), condition=condition
            )


VLLM_FAMILIES: Final[Sequence[Family]] = (
    _gauge("num_requests_running", "Requests that are being worked on"),
    _gauge("num_requests_waiting", "Requests that wait, for any reason"),
    _gauge("num_requests_waiting_by_reason", "Requests that wait, by reason", "reason"),
    _gauge(
        "num_requests_kv_fetch_by_stage",
        "Requests whose KV cache comes from elsewhere, by stage of the transfer",
        "stage",
        condition=KV_CONSUMER,
    ),
    _gauge("engine_sleep_state", "1 for the current sleep state of the engine", "sleep_state"),
    _gauge("kv_cache_usage_perc", "Share of the KV cache that is in use, 0 to 1"),
    Family(
        "vllm:lora_requests_info",
        "gauge",
        ("max_lora", "waiting_lora_adapters", "running_lora_adapters"),
        "Time at which these adapters were seen; the sum of several processes is not a time",
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
    _counter("num_preemptions", "Requests preempted to make room for others"),
    _counter("prompt_tokens", "Tokens of prompts, from all sources"),
    _counter("prompt_tokens_by_source", "Tokens of prompts, by source", "source"),
    _counter("prompt_tokens_cached", "Tokens of prompts that were not computed"),
    _counter("prompt_tokens_cached_by_source", "Cached tokens of prompts, by source", "source"),
    _counter("generation_tokens", "Tokens generated"),
    _counter("request_success", "Finished requests, by reason", "finished_reason"),
    Family(
        "vllm:admission_rejections",
        "counter",
        ("model_name", "reason"),
        "Requests rejected because the queue was full",
    ),
    _histogram("request_prompt_tokens", "Tokens of a request's prompt", _TOKENS),
    _histogram("request_generation_tokens", "Tokens generated for a request", _TOKENS),
    _histogram(
        "request_max_num_generation_tokens", "Tokens of the longest answer to a request", _TOKENS
    ),
    _histogram("request_params_max_tokens", "Limit of tokens that a request set", _TOKENS),
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
    _histogram("request_queue_time_seconds", "How long a request waited", _LATENCY),
    _histogram(
        "request_inference_time_seconds",
        "From the start of a request's prompt to its last token",
        _LATENCY,
    ),
    _histogram(
        "request_prefill_time_seconds",
        "From the start of a request's prompt to its first token",
        _LATENCY,
    ),
    _histogram("request_decode_time_seconds", "From the first token to the last", _LATENCY),
    _histogram(
        "kv_block_lifetime_seconds",
        "From a block's first use to its eviction",
        _RESIDENCY,
        _KV_CACHE_METRICS,
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
        "Drafted tokens accepted, by position in the draft",
        "position",
        condition=_SPECULATION,
    ),
    _counter("diffusion_num_denoising_steps", "Denoising steps", condition=_DIFFUSION),
    _counter("diffusion_num_canvas_positions", "Positions denoised", condition=_DIFFUSION),
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
        "Answers that were searched for tool calls",
        condition=_TOOLS,
    ),
    *_connector_families(),
    *(
        Family(
            f"vllm:lmcache_mp_{name}",
            "gauge" if mode else "counter",
            ("model_name", "worker_id", *labels),
            meaning,
            mode,
            rollup="sum",
            condition=_LMCACHE_SERVER,
        )
        for name, labels, mode, meaning in (
            ("kv_events_buffered", (), "livesum", "KV events that wait for vLLM"),
            ("kv_events_generated_total", (), "", "KV events that a worker has buffered"),
            ("kv_events_drained_total", (), "", "KV events that vLLM has taken"),
            ("kv_event_batches_total", (), "", "Batches of KV events from LMCache's server"),
            (
                "kv_event_resyncs_total",
                ("reason",),
                "",
                "How often a worker has withdrawn all that it had reported as cached",
            ),
        )
    ),
)
