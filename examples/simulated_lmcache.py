"""A worker of `vllm_simulation.py`, which counts the families `lmcache:` as LMCache does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from examples.simulated_requests import CHUNK, MODEL, SERVED_AS
from mpmetrics.engines.families import LMCACHE_FAMILIES, register_families

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from examples.simulated_requests import Request, Trace
    from examples.simulated_scheduler import Step

FAMILIES = [family for family in LMCACHE_FAMILIES if not family.condition]
"""The families of LMCache in an engine: without those of its cache controller."""

TOKEN_BYTES = 131_072
"""The bytes of KV cache of one token, in all ranks together."""

SLOW_SECONDS = 0.1
SLOW_SPEED = 20_000.0
"""A retrieval that takes longer, or loads fewer tokens a second, counts as slow."""


def load_speed(request: Request) -> float:
    """Return the number of tokens that LMCache has loaded in a second."""
    return request.cached.loaded / request.cached.load_seconds


COUNTED: Mapping[str, Callable[[Request], float]] = {
    "num_retrieve_requests": lambda it: bool(it.cached.loaded),
    "num_store_requests": lambda it: bool(it.cached.stored),
    "num_lookup_requests": lambda _: 1,
    "num_requested_tokens": lambda it: it.cached.loaded,
    "num_hit_tokens": lambda it: it.cached.loaded,
    "num_stored_tokens": lambda it: it.cached.stored,
    "num_lookup_tokens": lambda it: it.prompt.tokens,
    "num_lookup_hits": lambda it: it.cached.found,
    "num_vllm_hit_tokens": lambda it: it.cached.local,
    "num_prompt_tokens": lambda it: it.prompt.tokens,
    "num_remote_read_requests": lambda it: it.cached.loaded // CHUNK,
    "num_remote_write_requests": lambda it: it.cached.stored // CHUNK,
    "local_cpu_evict_count": lambda it: bool(it.cached.evicted),
    "local_cpu_evict_keys_count": lambda it: it.cached.evicted,
    "lookup_0_hit_requests": lambda it: not it.cached.found,
    "num_slow_retrieval_by_time": lambda it: (
        it.cached.loaded > 0 and it.cached.load_seconds > SLOW_SECONDS
    ),
    "num_slow_retrieval_by_speed": lambda it: 0 < load_speed(it) < SLOW_SPEED,
}
"""What every rank counts of a request; the other counters of LMCache stay at 0."""

SHARED: Mapping[str, Callable[[Request], int]] = {
    "num_remote_read_bytes": lambda it: it.cached.loaded,
    "num_remote_write_bytes": lambda it: it.cached.stored,
}
"""The tokens of which each rank counts its own share of the bytes."""

LOOKED_UP: Mapping[str, Callable[[Request], float]] = {
    "time_to_lookup": lambda it: it.cached.lookup_seconds,
}
FOUND: Mapping[str, Callable[[Request], float]] = {
    "request_cache_hit_rate": lambda it: it.cached.found / it.prompt.tokens,
}
LOADED: Mapping[str, Callable[[Request], float]] = {
    "time_to_retrieve": lambda it: it.cached.load_seconds,
    "retrieve_process_tokens_time": lambda it: it.cached.load_seconds / 8,
    "retrieve_broadcast_time": lambda it: it.cached.load_seconds / 16,
    "retrieve_to_gpu_time": lambda it: it.cached.load_seconds / 2,
    "remote_backend_batched_get_blocking_time": lambda it: it.cached.load_seconds / 4,
    "instrumented_connector_batched_get_time": lambda it: it.cached.load_seconds / 32,
    "retrieve_speed": load_speed,
    "remote_time_to_get": lambda it: it.cached.load_seconds * 1000 / 4,
    "remote_time_to_get_sync": lambda it: it.cached.load_seconds * 1000 / 2,
}
STORED: Mapping[str, Callable[[Request], float]] = {
    "time_to_store": lambda it: it.cached.store_seconds,
    "store_process_tokens_time": lambda it: it.cached.store_seconds / 8,
    "store_from_gpu_time": lambda it: it.cached.store_seconds / 2,
    "store_put_time": lambda it: it.cached.store_seconds / 4,
    "store_speed": lambda it: it.cached.stored / it.cached.store_seconds,
    "remote_time_to_put": lambda it: it.cached.store_seconds * 1000 / 4,
}
"""What histograms observe of a request that was looked up, found, loaded or stored."""


class Lmcache:
    """The metrics of LMCache in one process, whose *owned* callbacks never get into files."""

    def __init__(self, role: str, rank: int, owned: Callable[[str], bool]) -> None:
        """Make all families; only callbacks have series from the start."""
        self._labels = (MODEL, str(rank), role, SERVED_AS)
        self._metrics = register_families(FAMILIES)
        for family in FAMILIES:
            if not family.in_files and owned(family.name):
                self.of(family.name).set_function(float)

    def of(self, name: str) -> Any:
        """Return the series of the family *name* in this process."""
        return self._metrics[name].labels(*self._labels)


def is_of_scheduler(name: str) -> bool:
    """Return whether the gauge *name* belongs to the scheduler's process, and to no worker."""
    return name.startswith(("lmcache:scheduler_", "lmcache:connector_"))


class Worker:
    """The recording of LMCache's thread in a worker, which here runs after each step.

    Every rank looks up, loads and stores the same tokens, but only its own share of their bytes.
    """

    def __init__(self, trace: Trace, rank: int, ranks: int) -> None:
        """Start with an empty store."""
        self._trace = trace
        self._lmcache = Lmcache("worker", rank, lambda name: not is_of_scheduler(name))
        self._token_bytes = TOKEN_BYTES // ranks
        self._held = 0

    def __call__(self, step: Step) -> None:
        """Record the requests that were admitted in a step; without requests, record idleness."""
        requests = [self._trace.requests[number] for number in step.requests]
        for family in FAMILIES:
            if family.type == "counter":
                self._lmcache.of(family.name).inc(self._count(family.name, requests))
        self._held += sum(it.cached.stored // CHUNK - it.cached.evicted for it in requests)
        self._set_gauges(requests)
        for request in requests:
            self._observe(request)

    def _count(self, name: str, requests: Sequence[Request]) -> float:
        name = name.removeprefix("lmcache:")
        if name == "remote_ping_successes":
            return 1
        if name in SHARED:
            return self._token_bytes * sum(map(SHARED[name], requests))
        return sum(map(COUNTED.get(name, lambda _: 0), requests))

    def _set_gauges(self, requests: Sequence[Request]) -> None:
        prompts = sum(request.prompt.tokens for request in requests)
        found = sum(request.cached.found for request in requests)
        values = {
            "retrieve_hit_rate": 1,
            "lookup_hit_rate": found / prompts if prompts else 0,
            "local_cache_usage": self._held * CHUNK * self._token_bytes,
            "remote_cache_usage": 0,
            "local_storage_usage": 0,
            "active_memory_objs_count": self._held,
            "pinned_memory_objs_count": 0,
            "remote_ping_latency": 0,
            "remote_ping_error_code": 0,
        }
        for name, value in values.items():
            self._lmcache.of(f"lmcache:{name}").set(value)

    def _observe(self, request: Request) -> None:
        cached = request.cached
        observed = dict(LOOKED_UP)
        for amount, more in (
            (cached.found, FOUND),
            (cached.loaded, LOADED),
            (cached.stored, STORED),
        ):
            observed.update(more if amount else {})
        for name, value in observed.items():
            self._lmcache.of(f"lmcache:{name}").observe(value(request))
