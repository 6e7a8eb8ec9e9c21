"""The samples that the page of the simulated vLLM must have, computed from the trace alone.

Nothing here uses the code that counts in the simulation: the inputs are the requests, and the
meaning of each metric.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from mpmetrics.engines.families import LMCACHE_FAMILIES, VLLM_FAMILIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from examples.simulated_requests import Request, Trace

    Sample = tuple[str, frozenset[tuple[str, str]]]
    Samples = dict[Sample, Any]

    By = Mapping[str, float]

BUCKETS = {family.name: family.buckets for family in (*VLLM_FAMILIES, *LMCACHE_FAMILIES)}

NEVER_OBSERVED = {
    "lmcache:p2p_time_to_transfer",
    "lmcache:p2p_transfer_speed",
    "lmcache:request_cache_lifespan",
}
"""The histograms of LMCache that observe nothing, and so have no series."""


def sample(name: str, **labels: str) -> Sample:
    """Return the key of a sample."""
    return name, frozenset(labels.items())


def histogram(name: str, values: Sequence[float], **labels: str) -> Samples:
    """Return the samples of a histogram that has observed *values*."""
    edges = (*BUCKETS[name], float("inf"))
    return {
        **{
            sample(f"{name}_bucket", le=str(float(edge)), **labels): sum(
                value <= edge for value in values
            )
            for edge in edges
        },
        sample(f"{name}_count", **labels): len(values),
        sample(f"{name}_sum", **labels): sum(values),
    }


def vllm_samples(trace: Trace) -> Samples:
    """Return all samples of `vllm:` once the trace is replayed."""
    engine = {"model_name": "simulated", "engine": "0"}
    samples: Samples = {}
    for name, value in vllm_numbers(trace.requests).items():
        samples[sample(f"vllm:{name}", **engine)] = value
    for (name, label), values in vllm_numbers_by(trace.requests).items():
        for which, value in values.items():
            samples[sample(f"vllm:{name}", **engine, **{label: which})] = value
    for name, observed in vllm_observed(trace).items():
        samples |= histogram(f"vllm:{name}", list(observed), **engine)
    for reason in ("max_num_queued_reqs", "max_num_queued_tokens"):
        rejections = "vllm:admission_rejections_total"
        samples[sample(rejections, model_name="simulated", reason=reason)] = 0
    settings = {"block_size": "16", "num_gpu_blocks": "32768"}
    samples[sample("vllm:cache_config_info", engine="0", **settings)] = 1
    return samples


def vllm_numbers(requests: Sequence[Request]) -> By:
    """Return the counters and gauges that have no labels but the engine's."""
    prompts = sum(each.prompt.tokens for each in requests)
    local = sum(each.cached.local for each in requests)
    external = sum(max(each.cached.found - each.cached.local, 0) for each in requests)
    zero = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
    unused = ("mm_cache_queries", "mm_cache_hits")
    estimated = ("flops", "read_bytes", "write_bytes")
    return {
        **dict.fromkeys(zero, 0),
        **{f"{name}_total": 0 for name in unused},
        **{f"estimated_{name}_per_gpu_total": 0 for name in estimated},
        "prefix_cache_queries_total": prompts,
        "prefix_cache_hits_total": local,
        "external_prefix_cache_queries_total": prompts - local,
        "external_prefix_cache_hits_total": external,
        "num_preemptions_total": sum(map(preemptions, requests)),
        "prompt_tokens_total": prompts,
        "prompt_tokens_cached_total": local + external,
        "generation_tokens_total": sum(len(each.steps) for each in requests),
    }


def vllm_numbers_by(requests: Sequence[Request]) -> Mapping[tuple[str, str], By]:
    """Return the counters and gauges that have one more label, by the value of that label."""
    local = sum(each.cached.local for each in requests)
    external = sum(max(each.cached.found - each.cached.local, 0) for each in requests)
    ended = Counter(each.finish_reason for each in requests)
    reasons = ("stop", "length", "abort", "error", "repetition")
    return {
        ("num_requests_waiting_by_reason", "reason"): {"capacity": 0, "deferred": 0},
        ("num_requests_kv_fetch_by_stage", "stage"): {
            "waiting_to_start": 0,
            "in_progress": 0,
            "completed_waiting": 0,
        },
        ("engine_sleep_state", "sleep_state"): {
            "awake": 1,
            "weights_offloaded": 0,
            "discard_all": 0,
        },
        ("prompt_tokens_by_source_total", "source"): {
            "local_compute": sum(map(count_computed, requests)),
            "local_cache_hit": local,
            "external_kv_transfer": external,
        },
        ("prompt_tokens_cached_by_source_total", "source"): {
            "device": local,
            "host": 0,
            "p2p": 0,
            "disk": 0,
            "external_unspecified": external,
        },
        ("request_success_total", "finished_reason"): {each: ended[each] for each in reasons},
    }


def vllm_observed(trace: Trace) -> Mapping[str, Iterable[float]]:
    """Return the observations of each histogram."""
    requests, clock = trace.requests, trace.clock
    first = [clock[each.steps[0]] for each in requests]
    last = [clock[each.steps[-1]] for each in requests]
    queued = [clock[each.prompt.arrived] for each in requests]
    arrived = [at - each.prompt.delay for at, each in zip(queued, requests, strict=True)]
    scheduled = [clock[each.admitted - 1] for each in requests]
    generated = [len(each.steps) for each in requests]
    decoding = differences(first, last)
    answers = defaultdict(list)
    for each in requests:
        answers[each.prompt.number].append(len(each.steps))
    return {
        "request_prompt_tokens": [each.prompt.tokens for each in requests],
        "request_generation_tokens": generated,
        "request_max_num_generation_tokens": map(max, answers.values()),
        "request_params_max_tokens": [
            each.prompt.max_tokens for each in requests if each.prompt.max_tokens
        ],
        "request_prefill_kv_computed_tokens": map(count_computed, requests),
        "iteration_tokens_total": iterations(requests),
        "request_params_n": map(len, answers.values()),
        "request_num_preemptions": map(preemptions, requests),
        "time_to_first_token_seconds": differences(arrived, first),
        "inter_token_latency_seconds": [
            clock[after] - clock[before]
            for each in requests
            for before, after in pairwise(each.steps)
        ],
        "request_time_per_output_token_seconds": [
            time / max(tokens - 1, 1) for time, tokens in zip(decoding, generated, strict=True)
        ],
        "e2e_request_latency_seconds": differences(arrived, last),
        "request_queue_time_seconds": differences(queued, scheduled),
        "request_prefill_time_seconds": differences(scheduled, first),
        "request_inference_time_seconds": differences(scheduled, last),
        "request_decode_time_seconds": decoding,
    }


def iterations(requests: Sequence[Request]) -> Iterable[float]:
    """Return the tokens that each step worked on, for each API server with a request in it."""
    tokens: Counter[tuple[int, int]] = Counter()
    for each in requests:
        for step in each.steps:
            tokens[each.prompt.api_server, step] += 1
        tokens[each.prompt.api_server, each.steps[0]] += count_computed(each)
    return tokens.values()


def preemptions(request: Request) -> int:
    """Return how often a request was preempted: how many gaps its steps have."""
    return sum(after - before > 1 for before, after in pairwise(request.steps))


def count_computed(request: Request) -> int:
    """Return the number of a prompt's tokens that neither vLLM nor LMCache had."""
    return request.prompt.tokens - max(request.cached.local, request.cached.found)


def differences(since: Sequence[float], until: Sequence[float]) -> list[float]:
    """Return the difference of each pair."""
    return [late - early for early, late in zip(since, until, strict=True)]


def lmcache_samples(trace: Trace, ranks: int) -> Samples:
    """Return all samples of `lmcache:` once the trace is replayed."""
    samples: Samples = {}
    for rank in range(ranks):
        labels = {
            "model_name": "example/simulated-8b",
            "worker_id": str(rank),
            "role": "worker",
            "served_model_name": "simulated",
        }
        for name, value in lmcache_numbers(trace, ranks).items():
            samples[sample(f"lmcache:{name}", **labels)] = value
        for name, observed in lmcache_observed(trace.requests).items():
            if observed:
                samples |= histogram(f"lmcache:{name}", observed, **labels)
        # Hit rates are not exact: the last digits of their sum depend on the order.
        hit_rate = sample("lmcache:request_cache_hit_rate_sum", **labels)
        if hit_rate in samples:
            samples[hit_rate] = pytest.approx(samples[hit_rate], rel=1e-12)
    return samples


def lmcache_numbers(trace: Trace, ranks: int) -> By:
    """Return the counters and gauges of one worker."""
    requests = trace.requests
    prompts = sum(each.prompt.tokens for each in requests)
    chunks = sum(map(loaded_chunks, requests))
    stored = sum(each.cached.stored for each in requests)
    evicted = sum(each.cached.evicted for each in requests)
    held = stored // 256 - evicted
    share = 131_072 // ranks
    retrievals = [each for each in requests if loaded_chunks(each)]
    gauges = {
        "retrieve_hit_rate": 1,
        "lookup_hit_rate": 0,
        "local_cache_usage": held * 256 * share,
        "remote_cache_usage": 0,
        "local_storage_usage": 0,
        "active_memory_objs_count": held,
        "pinned_memory_objs_count": 0,
        "remote_ping_latency": 0,
        "remote_ping_error_code": 0,
        "storage_events_ongoing_count": 0,
        "storage_events_done_count": 0,
        "storage_events_not_found_count": 0,
    }
    counters = {
        "num_retrieve_requests": len(retrievals),
        "num_store_requests": sum(each.cached.stored > 0 for each in requests),
        "num_lookup_requests": len(requests),
        "num_requested_tokens": chunks * 256,
        "num_hit_tokens": chunks * 256,
        "num_stored_tokens": stored,
        "num_lookup_tokens": prompts,
        "num_lookup_hits": sum(each.cached.found for each in requests),
        "num_vllm_hit_tokens": sum(each.cached.local for each in requests),
        "num_prompt_tokens": prompts,
        "num_remote_read_requests": chunks,
        "num_remote_read_bytes": chunks * 256 * share,
        "num_remote_write_requests": stored // 256,
        "num_remote_write_bytes": stored * share,
        "local_cpu_evict_count": sum(each.cached.evicted > 0 for each in requests),
        "local_cpu_evict_keys_count": evicted,
        "local_cpu_evict_failed_count": 0,
        "forced_unpin_count": 0,
        "lookup_0_hit_requests": sum(each.cached.found == 0 for each in requests),
        "num_slow_retrieval_by_time": sum(each.cached.load_seconds > 0.1 for each in retrievals),
        "num_slow_retrieval_by_speed": sum(
            loaded_chunks(each) * 256 / each.cached.load_seconds < 20_000 for each in retrievals
        ),
        "remote_ping_errors": 0,
        "remote_ping_successes": len(trace.clock) - 1,
    }
    return {**gauges, **{f"{name}_total": value for name, value in counters.items()}}


def loaded_chunks(request: Request) -> int:
    """Return the number of chunks that LMCache has loaded: those with tokens that vLLM lacked."""
    local, found = request.cached.local, request.cached.found
    return found // 256 - local // 256 if found > local else 0


def lmcache_observed(requests: Sequence[Request]) -> Mapping[str, list[float]]:
    """Return the observations of each histogram, in the order of the requests."""
    retrieved = [(each, each.cached.load_seconds) for each in requests if loaded_chunks(each)]
    stored = [(each, each.cached.store_seconds) for each in requests if each.cached.stored]
    retrieval = [time for _, time in retrieved]
    storing = [time for _, time in stored]
    return {
        "time_to_lookup": [each.cached.lookup_seconds for each in requests],
        "request_cache_hit_rate": [
            each.cached.found / each.prompt.tokens for each in requests if each.cached.found
        ],
        "time_to_retrieve": retrieval,
        "retrieve_process_tokens_time": times(retrieval, 0.125),
        "retrieve_broadcast_time": times(retrieval, 0.0625),
        "retrieve_to_gpu_time": times(retrieval, 0.5),
        "remote_backend_batched_get_blocking_time": times(retrieval, 0.25),
        "instrumented_connector_batched_get_time": times(retrieval, 0.03125),
        "retrieve_speed": [loaded_chunks(each) * 256 / time for each, time in retrieved],
        "remote_time_to_get": times(retrieval, 250),
        "remote_time_to_get_sync": times(retrieval, 500),
        "time_to_store": storing,
        "store_process_tokens_time": times(storing, 0.125),
        "store_from_gpu_time": times(storing, 0.5),
        "store_put_time": times(storing, 0.25),
        "store_speed": [each.cached.stored / time for each, time in stored],
        "remote_time_to_put": times(storing, 250),
    }


def times(values: Iterable[float], factor: float) -> list[float]:
    """Return each of *values* times *factor*."""
    return [value * factor for value in values]
