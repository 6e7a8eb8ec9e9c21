"""An API server of `vllm_simulation.py`, which counts the families `vllm:` as vLLM does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from examples.simulated_requests import BLOCK, SERVED_AS
from examples.simulated_scheduler import NUM_BLOCKS
from mpmetrics.engines.families import KV_CONSUMER, VLLM_FAMILIES, register_families
from mpmetrics.engines.vllm import IterationTokens, PrefillStats, PromptTokenStats, TokenMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from examples.simulated_requests import Request, Trace
    from examples.simulated_scheduler import Snapshot, Step
    from mpmetrics.engines.families import Family

CACHE_CONFIG = {"block_size": str(BLOCK), "num_gpu_blocks": str(NUM_BLOCKS)}

KNOWN = {"model_name": SERVED_AS, "engine": "0", **CACHE_CONFIG}

VALUES: Mapping[str, Sequence[str]] = {
    "vllm:num_requests_waiting_by_reason": ("capacity", "deferred"),
    "vllm:num_requests_kv_fetch_by_stage": (
        "waiting_to_start",
        "in_progress",
        "completed_waiting",
    ),
    "vllm:engine_sleep_state": ("awake", "weights_offloaded", "discard_all"),
    "vllm:prompt_tokens_by_source": PromptTokenStats.ALL_SOURCES,
    "vllm:prompt_tokens_cached_by_source": (
        "device",
        "host",
        "p2p",
        "disk",
        "external_unspecified",
    ),
    "vllm:request_success": ("stop", "length", "abort", "error", "repetition"),
    "vllm:admission_rejections": ("max_num_queued_reqs", "max_num_queued_tokens"),
}
"""The values of the one label that varies, by family."""


class Times(NamedTuple):
    """The times of the events of a request, in seconds."""

    arrived: float
    queued: float
    scheduled: float
    first: float
    last: float


class Finished(NamedTuple):
    """A finished request."""

    request: Request
    times: Times

    def per_token(self) -> float:
        """Return the mean time from token to token, or 0 if there is one token."""
        gaps = len(self.request.steps) - 1
        return (self.times.last - self.times.first) / gaps if gaps else 0.0


OF_FINISHED: Mapping[str, Callable[[Finished], float]] = {
    "e2e_request_latency_seconds": lambda it: it.times.last - it.times.arrived,
    "request_queue_time_seconds": lambda it: it.times.scheduled - it.times.queued,
    "request_prefill_time_seconds": lambda it: it.times.first - it.times.scheduled,
    "request_inference_time_seconds": lambda it: it.times.last - it.times.scheduled,
    "request_decode_time_seconds": lambda it: it.times.last - it.times.first,
    "request_time_per_output_token_seconds": Finished.per_token,
    "request_num_preemptions": lambda it: it.request.preemptions,
    "request_prefill_kv_computed_tokens": lambda it: (
        it.request.prompt.tokens - it.request.cached.local - it.request.cached.external
    ),
    "request_prompt_tokens": lambda it: it.request.prompt.tokens,
    "request_generation_tokens": lambda it: len(it.request.steps),
}
"""What histograms observe of a finished request."""


class ApiServer:
    """The recording of vLLM's API server for one engine, at the same events."""

    def __init__(self, trace: Trace) -> None:
        """Make all series, so that they exist before the first request."""
        self._trace = trace
        self._series = _make_series()
        self._tokens = TokenMetrics(model_name=SERVED_AS)
        for state in VALUES["vllm:engine_sleep_state"]:
            self._of("engine_sleep_state", state).set(state == "awake")
        self._of("cache_config_info").set(1)

    def __call__(self, step: Step) -> None:
        """Record the part of an engine's step that is for this server."""
        if step.snapshot is not None:
            self._record_scheduler(step.snapshot)
        if step.requests:
            requests = [self._trace.requests[number] for number in step.requests]
            self._record_tokens(step.number, requests)
            for request in requests:
                self._record_latency(step.number, request)
                if step.number == request.steps[-1]:
                    self._record_finished(request)

    def _of(self, name: str, value: str = "") -> Any:
        return self._series[f"vllm:{name}", value]

    def _record_scheduler(self, snapshot: Snapshot) -> None:
        self._of("num_requests_running").set(snapshot.running)
        self._of("num_requests_waiting").set(snapshot.capacity + snapshot.deferred)
        self._of("num_requests_waiting_by_reason", "capacity").set(snapshot.capacity)
        self._of("num_requests_waiting_by_reason", "deferred").set(snapshot.deferred)
        for stage in VALUES["vllm:num_requests_kv_fetch_by_stage"]:
            fetching = snapshot.deferred if stage == "in_progress" else 0
            self._of("num_requests_kv_fetch_by_stage", stage).set(fetching)
        self._of("kv_cache_usage_perc").set(snapshot.kv_cache_usage)
        self._of("prefix_cache_queries").inc(snapshot.queries)
        self._of("prefix_cache_hits").inc(snapshot.hits)
        self._of("external_prefix_cache_queries").inc(snapshot.external_queries)
        self._of("external_prefix_cache_hits").inc(snapshot.external_hits)
        self._of("prompt_tokens_cached_by_source", "device").inc(snapshot.hits)
        tier = "external_unspecified"
        self._of("prompt_tokens_cached_by_source", tier).inc(snapshot.external_hits)

    def _record_tokens(self, step: int, requests: Iterable[Request]) -> None:
        tokens = IterationTokens()
        for request in requests:
            prefill = make_prefill(request) if step == request.steps[0] else None
            tokens.update_from_output(1, prefill)
        self._of("num_preemptions").inc(sum(request.is_resumed(step) for request in requests))
        self._tokens.record(tokens)

    def _record_latency(self, step: int, request: Request) -> None:
        """Record the latency of the token of this *step*, which may be the first token."""
        now = self._trace.clock[step]
        if step == request.steps[0]:
            waited = now - self._times(request).arrived
            self._of("time_to_first_token_seconds").observe(waited)
        else:
            before = request.steps[request.steps.index(step) - 1]
            self._of("inter_token_latency_seconds").observe(now - self._trace.clock[before])

    def _record_finished(self, request: Request) -> None:
        self._of("request_success", request.finish_reason).inc()
        finished = Finished(request, self._times(request))
        for name, value in OF_FINISHED.items():
            self._of(name).observe(value(finished))
        if request.prompt.max_tokens:
            self._of("request_params_max_tokens").observe(request.prompt.max_tokens)
        answers = self._trace.siblings(request)
        if request is answers[-1]:
            longest = max(len(answer.steps) for answer in answers)
            self._of("request_max_num_generation_tokens").observe(longest)
            self._of("request_params_n").observe(len(answers))

    def _times(self, request: Request) -> Times:
        clock = self._trace.clock
        queued = clock[request.prompt.arrived]
        return Times(
            queued - request.prompt.delay,
            queued,
            clock[request.admitted - 1],
            clock[request.steps[0]],
            clock[request.steps[-1]],
        )


def simulated_vllm_families() -> Iterator[Family]:
    """Yield the families of a server with LMCache and without any other option that adds some."""
    for family in VLLM_FAMILIES:
        if family.name == "vllm:cache_config_info":
            yield family._replace(labels=(*CACHE_CONFIG, *family.labels))
        elif family.condition in {"", KV_CONSUMER}:
            yield family


def _make_series() -> dict[tuple[str, str], Any]:
    """Make all series; return them by name and the value of the label that varies."""
    families = {family.name: family for family in simulated_vllm_families()}
    return {
        (name, value): metric.labels(*(KNOWN.get(label, value) for label in families[name].labels))
        for name, metric in register_families(families.values()).items()
        for value in VALUES.get(name, [""])
    }


def make_prefill(request: Request) -> PrefillStats:
    """Return the sources of the tokens of a request's prompt."""
    stats = PrefillStats()
    stats.set(request.prompt.tokens, request.cached.local, request.cached.external)
    return stats
