"""A vLLM server with LMCache, as far as its metrics go: no GPU, no model, and no vLLM.

    mpmetrics run -- python examples/vllm_simulation.py

As in vLLM, several API servers, an engine core and a worker for each rank of tensor parallelism are
processes of their own, and write to the directory that PROMETHEUS_MULTIPROC_DIR names. They replay
a trace of requests that is the same for the same seed, so that the right value of each metric is
known. Times are those of the trace; the clock is not looked at.

When all is replayed it says so and stays until it is told to end; with --once it ends by itself.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from multiprocessing import connection, resource_tracker
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from prometheus_client import Counter, Gauge, Histogram

from mpmetrics.engines.catalogue import KV_CONSUMER, LMCACHE_FAMILIES, VLLM_FAMILIES
from mpmetrics.engines.ledger import IterationTokens, PrefillStats, PromptTokenStats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from multiprocessing.connection import Connection

    from mpmetrics.engines.catalogue import Family

    Pipe = Connection[Any, Any]

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

BLOCK = 16
"""Tokens in a block of vLLM's cache."""

CHUNK = 256
"""Tokens in a chunk of LMCache."""

ROOM = 64
"""Chunks that LMCache keeps in the CPU's memory."""

NUM_BLOCKS = 32_768
TOKEN_BYTES = 131_072
"""Size of the KV cache of one token, all ranks together."""

SLOW_SECONDS = 0.1
SLOW_SPEED = 20_000.0
"""A retrieval that takes longer, or gets fewer tokens in a second, is counted as slow."""

MODEL = "example/simulated-8b"
CACHE_CONFIG = {"block_size": str(BLOCK), "num_gpu_blocks": str(NUM_BLOCKS)}


# -- the trace -------------------------------------------------------------------------------------


class Prompt(NamedTuple):
    """What a client asks: one answer, or several (`n`), each of which is a `Request`."""

    number: int
    api_server: int
    arrived: int
    """The step of the engine at whose end it is queued."""
    delay: float
    """Seconds that the API server had it before."""
    tokens: int
    max_tokens: int
    """The tokens that an answer may have; 0 for no limit."""


class Cached(NamedTuple):
    """How many tokens of a prompt need not be computed, and what LMCache does with the others."""

    local: int
    """Found by vLLM, in whole blocks."""
    found: int
    """Found by LMCache, in whole chunks from the beginning on."""
    stored: int
    evicted: int
    """Chunks that LMCache has dropped to make room."""
    lookup_seconds: float
    load_seconds: float
    store_seconds: float

    @property
    def external(self) -> int:
        """What comes from elsewhere: what LMCache has beyond what is here."""
        return max(0, self.found - self.local)

    @property
    def loaded(self) -> int:
        """What LMCache has to bring for that, in whole chunks."""
        return self.found - self.local // CHUNK * CHUNK if self.external else 0


class Request(NamedTuple):
    """One answer, from the steps of the engine in which something happened to it."""

    prompt: Prompt
    cached: Cached
    fetching: int
    """The step from which on it is waited for tokens from elsewhere."""
    admitted: int
    steps: tuple[int, ...]
    """Those that gave a token each. Between two of them it was preempted if others are between."""
    finish_reason: str

    def is_resumed(self, step: int) -> bool:
        """Tell whether it was preempted before the token of this *step*."""
        return step != self.steps[0] and step - 1 not in self.steps

    @property
    def preemptions(self) -> int:
        """How often it was preempted."""
        return sum(map(self.is_resumed, self.steps))


class Trace(NamedTuple):
    """All requests, and when each step of the engine was over; step 0 is the beginning."""

    requests: Sequence[Request]
    clock: Sequence[float]

    def siblings(self, request: Request) -> list[Request]:
        """Return all answers to the prompt of one, the last to be finished last."""
        answers = [each for each in self.requests if each.prompt == request.prompt]
        return sorted(answers, key=lambda each: each.steps[-1])


def make_trace(seed: int, count: int, api_servers: int = 2) -> Trace:
    """Return *count* requests, the same for the same arguments.

    All times are whole multiples of a power of two, and so is what they are divided by: sums of
    them are exact, whichever process has which of them.
    """
    chance = Random(seed)  # noqa: S311 - not for secrets
    requests: list[Request] = []
    held = 0
    for number in range(count):
        is_sibling = bool(requests) and chance.random() < 1 / 8
        last = requests[-1].prompt if requests else Prompt(0, 0, 1, 0.0, 0, 0)
        prompt = last if is_sibling else _make_prompt(chance, number, last.arrived, api_servers)
        cached = _make_cached(chance, prompt, held)
        held += cached.stored // CHUNK - cached.evicted
        requests.append(_make_request(chance, prompt, cached))
    clock = [0.0]
    for _ in range(max(request.steps[-1] for request in requests) + 1):
        clock.append(clock[-1] + chance.randrange(1, 64) / 256)
    return Trace(requests, clock)


def _make_prompt(chance: Random, number: int, since: int, api_servers: int) -> Prompt:
    return Prompt(
        number,
        chance.randrange(api_servers),
        since + chance.randrange(4),
        chance.randrange(1, 32) / 256,
        int(2 ** chance.uniform(3, 14)),
        chance.choice([0, 33]),
    )


def _make_cached(chance: Random, prompt: Prompt, held: int) -> Cached:
    """Return what is cached of a prompt; at least one of its tokens has to be computed."""
    most = prompt.tokens - 1
    local = chance.choice([0, chance.randint(0, most // BLOCK) * BLOCK])
    found = chance.choice([0, chance.randint(0, most // CHUNK) * CHUNK])
    stored = chance.choice([0, prompt.tokens // CHUNK * CHUNK - found])
    return Cached(
        local,
        found,
        stored,
        max(0, held + stored // CHUNK - ROOM),
        *(2.0 ** -chance.randint(*powers) for powers in ((10, 16), (1, 9), (1, 9))),
    )


def _make_request(chance: Random, prompt: Prompt, cached: Cached) -> Request:
    fetching = prompt.arrived + 1 + chance.randrange(4)
    admitted = fetching + (1 + chance.randrange(4) if cached.external else 0)
    steps = [admitted + chance.randrange(3)]
    for _ in range(chance.choice([0, 1, 2, 4, 8, 16, 32])):
        gap = 1 + chance.choice([0] * 31 + [1 + chance.randrange(6)])
        steps.append(steps[-1] + gap)
    others = ["stop"] * 6 + ["abort", "error", "repetition"]
    reason = "length" if len(steps) == prompt.max_tokens else chance.choice(others)
    return Request(prompt, cached, fetching, admitted, tuple(steps), reason)


# -- what all processes share ----------------------------------------------------------------------


class Snapshot(NamedTuple):
    """What the scheduler tells after a step: who is where, and what those admitted have found."""

    running: int
    capacity: int
    deferred: int
    kv_cache_usage: float
    queries: int
    hits: int
    external_queries: int
    external_hits: int


class Step(NamedTuple):
    """What the engine core sends: a step, the numbers of requests, and maybe the scheduler's."""

    number: int
    requests: Sequence[int]
    snapshot: Snapshot | None = None


_TYPES: dict[str, Any] = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}


def make_metric(family: Family) -> Any:  # noqa: ANN401 - a metric of any type
    """Return a metric as the engine makes it."""
    options: dict[str, Any] = {
        "gauge": {"multiprocess_mode": family.mode},
        "histogram": {"buckets": family.buckets},
    }
    return _TYPES[family.type](
        family.name, family.help, family.labels, **options.get(family.type, {})
    )


def serve(make: Callable[[], Callable[[Step], None]], pipe: Pipe) -> None:
    """Record what the engine core sends, and say so each time, until the core is gone."""
    record = make()
    with suppress(EOFError, ConnectionError):
        while True:
            record(pipe.recv())
            pipe.send(None)


# -- API servers -----------------------------------------------------------------------------------

KNOWN = {"model_name": MODEL, "engine": "0", **CACHE_CONFIG}

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
"""The values of the label that a family has beside those that are always the same."""


class Times(NamedTuple):
    """When what happened to a request, in seconds."""

    arrived: float
    queued: float
    scheduled: float
    first: float
    last: float


class Finished(NamedTuple):
    """A request that is over."""

    request: Request
    times: Times

    def per_token(self) -> float:
        """Return the mean time from token to token; 0 if there is but one."""
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
"""What histograms observe of a request when it is over."""


class ApiServer:
    """Records what vLLM's API server does, in the same places, for one engine."""

    def __init__(self, trace: Trace) -> None:
        """Make all series, so that they are there before anything happens."""
        self._trace = trace
        self._children = {
            (family.name, value): child
            for family in simulated_vllm_families()
            for value, child in _children(family)
        }
        for state in VALUES["vllm:engine_sleep_state"]:
            self._of("engine_sleep_state", state).set(state == "awake")
        self._of("cache_config_info").set(1)

    def __call__(self, step: Step) -> None:
        """Record what a step of the engine has brought for this server."""
        if step.snapshot is not None:
            self._record_scheduler(step.snapshot)
        if step.requests:
            requests = [self._trace.requests[number] for number in step.requests]
            self._record_tokens(step.number, requests)
            for request in requests:
                self._record_latency(step.number, request)
                if step.number == request.steps[-1]:
                    self._record_finished(request)

    def _of(self, name: str, value: str = "") -> Any:  # noqa: ANN401 - a metric of any type
        return self._children[f"vllm:{name}", value]

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
            prefill = prefill_of(request) if step == request.steps[0] else None
            tokens.update_from_output(1, prefill)
        self._of("num_preemptions").inc(sum(request.is_resumed(step) for request in requests))
        self._of("prompt_tokens").inc(tokens.num_prompt_tokens)
        for source in tokens.prompt.ALL_SOURCES:
            self._of("prompt_tokens_by_source", source).inc(tokens.prompt.get_by_source(source))
        self._of("prompt_tokens_cached").inc(tokens.prompt.cached_tokens)
        self._of("generation_tokens").inc(tokens.num_generation_tokens)
        self._of("iteration_tokens_total").observe(tokens.iteration_tokens)

    def _record_latency(self, step: int, request: Request) -> None:
        """Record how long was waited for the token of this *step*, which may be the first."""
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
    """Yield the families of a server that has LMCache, and no other option that adds metrics."""
    for family in VLLM_FAMILIES:
        if family.name == "vllm:cache_config_info":
            yield family._replace(labels=(*CACHE_CONFIG, *family.labels))
        elif family.condition in {"", KV_CONSUMER}:
            yield family


def _children(family: Family) -> Iterator[tuple[str, Any]]:
    """Make a metric with all series that it will have; yield these by what tells them apart."""
    metric = make_metric(family)
    for value in VALUES.get(family.name, [""]):
        yield value, metric.labels(*(KNOWN.get(label, value) for label in family.labels))


def prefill_of(request: Request) -> PrefillStats:
    """Return where the tokens of a request's prompt come from."""
    stats = PrefillStats()
    stats.set(request.prompt.tokens, request.cached.local, request.cached.external)
    return stats


# -- workers ---------------------------------------------------------------------------------------


def load_speed(request: Request) -> float:
    """Return how many tokens LMCache has brought in a second."""
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
"""What every rank counts of a request. Each counter of LMCache is there, most of them with 0."""

SHARED: Mapping[str, Callable[[Request], int]] = {
    "num_remote_read_bytes": lambda it: it.cached.loaded,
    "num_remote_write_bytes": lambda it: it.cached.stored,
}
"""The tokens of which each rank counts the bytes that are its own."""

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
"""What histograms observe of a request that was looked up, found, loaded, or stored."""


class Lmcache:
    """LMCache's metrics in one process, of which its *owned* callbacks never get into files."""

    def __init__(self, role: str, rank: int, owned: Callable[[str], bool]) -> None:
        """Make all families; there is no series before it is needed, but for callbacks."""
        self._labels = (MODEL, str(rank), role, MODEL)
        self._metrics = {family.name: make_metric(family) for family in LMCACHE_FAMILIES}
        for family in LMCACHE_FAMILIES:
            if not family.in_files and owned(family.name):
                self.of(family.name).set_function(float)

    def of(self, name: str) -> Any:  # noqa: ANN401 - a metric of any type
        """Return the series of this process."""
        return self._metrics[name].labels(*self._labels)


def is_of_scheduler(name: str) -> bool:
    """Tell whether the scheduler asks for the gauge of this name, and no worker."""
    return name.startswith(("lmcache:scheduler_", "lmcache:connector_"))


class Worker:
    """Records what LMCache does in a worker, after each step as its thread does from time to time.

    Every rank looks up, loads and stores the same tokens, but only its own part of their bytes.
    """

    def __init__(self, trace: Trace, rank: int, ranks: int) -> None:
        """Begin with nothing stored."""
        self._trace = trace
        self._lmcache = Lmcache("worker", rank, lambda name: not is_of_scheduler(name))
        self._token_bytes = TOKEN_BYTES // ranks
        self._held = 0

    def __call__(self, step: Step) -> None:
        """Record the requests that were admitted in a step; without any, that it is idle."""
        requests = [self._trace.requests[number] for number in step.requests]
        for family in LMCACHE_FAMILIES:
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


# -- the engine core -------------------------------------------------------------------------------


def run_engine_core(
    trace: Trace, control: Pipe, api_servers: Sequence[Pipe], workers: Sequence[Pipe]
) -> None:
    """Replay the trace step by step; then say so, and stay until another process is gone."""
    Lmcache("scheduler", 0, is_of_scheduler)
    with suppress(EOFError, ConnectionError):
        # One more than there are: in the last nothing is left to do, and gauges go to zero. Who
        # sets them sees to it last, since no step begins before all have recorded the one before.
        for number in range(1, len(trace.clock)):
            messages = dict(zip(workers, [loading(trace, number)] * len(workers), strict=True))
            for server, step in outputs(trace, number).items():
                messages[api_servers[server]] = step
            for pipe, step in messages.items():
                pipe.send(step)
            for pipe in messages:
                pipe.recv()
        control.send(None)
        connection.wait([control, *api_servers, *workers])


def loading(trace: Trace, number: int) -> Step:
    """Return what a step is for workers: the requests that are admitted."""
    admitted = [at for at, each in enumerate(trace.requests) if each.admitted == number]
    return Step(number, admitted)


def outputs(trace: Trace, number: int) -> Mapping[int, Step]:
    """Return what a step is for each API server: the requests that have got a token.

    What the scheduler tells goes to one server only, the first if none has a request.
    """
    shares: dict[int, list[int]] = {}
    for at, request in enumerate(trace.requests):
        if number in request.steps:
            shares.setdefault(request.prompt.api_server, []).append(at)
    first = next(iter(shares), 0)
    steps = {server: Step(number, share) for server, share in shares.items()}
    steps[first] = Step(number, shares.get(first, []), take_snapshot(trace, number))
    return steps


def take_snapshot(trace: Trace, number: int) -> Snapshot:
    """Return what the scheduler tells after a step."""
    requests = trace.requests
    running = [each for each in requests if each.admitted <= number < each.steps[-1]]
    admitted = [each for each in requests if each.admitted == number]
    used = sum(-(-each.prompt.tokens // BLOCK) for each in running)
    queries = sum(each.prompt.tokens for each in admitted)
    hits = sum(each.cached.local for each in admitted)
    return Snapshot(
        running=len(running),
        capacity=sum(each.prompt.arrived <= number < each.fetching for each in requests),
        deferred=sum(each.fetching <= number < each.admitted for each in requests),
        kv_cache_usage=min(1.0, used / NUM_BLOCKS),
        queries=queries,
        hits=hits,
        external_queries=queries - hits,
        external_hits=sum(each.cached.external for each in admitted),
    )


# -- all of it -------------------------------------------------------------------------------------

ENDING = {signal.SIGINT, signal.SIGTERM}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the simulation; return its exit status."""
    options = parse(arguments)
    if not os.environ.get(VARIABLE):
        print(f"vllm_simulation: {VARIABLE} is not set", file=sys.stderr)
        return 2
    for number in ENDING:
        signal.signal(number, signal.default_int_handler)
    try:
        with simulation(options) as engine_core:
            engine_core.recv()
            print(f"vllm_simulation: {options.requests} requests are replayed, ready", flush=True)
            if not options.once:
                engine_core.recv()
    except KeyboardInterrupt:
        pass
    except EOFError:
        print("vllm_simulation: one of the processes has ended", file=sys.stderr)
        return 1
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what is asked for on the command line."""
    parser = argparse.ArgumentParser(description="Simulate the metrics of a vLLM server.")
    parser.add_argument("--once", action="store_true", help="end when all is replayed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--requests", type=positive, default=64)
    parser.add_argument("--api-servers", type=positive, default=2)
    parser.add_argument("--tensor-parallel", type=positive, default=2)
    return parser.parse_args(arguments)


def positive(text: str) -> int:
    """Return a number that is at least 1. Raises `ValueError`."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


@contextmanager
def simulation(options: argparse.Namespace) -> Iterator[Pipe]:
    """Run all processes until the end of the block; give the pipe to the engine core.

    Pipes are the only hold on them: when this process ends, however it does, the engine core sees
    the end of its pipe, and the others the end of theirs.
    """
    spawn = multiprocessing.get_context("spawn")
    trace = make_trace(options.seed, options.requests, options.api_servers)
    ranks = options.tensor_parallel
    servers = [partial(ApiServer, trace)] * options.api_servers
    workers = [partial(Worker, trace, rank, ranks) for rank in range(ranks)]
    processes = []
    control, controlled = spawn.Pipe()
    try:
        with ExitStack() as stack, held_signals():
            stack.enter_context(controlled)
            pipes = [spawn.Pipe() for _ in (*servers, *workers)]
            for pipe in pipes:
                stack.enter_context(pipe[0])
                stack.enter_context(pipe[1])
            near = [pipe[0] for pipe in pipes]
            core = (trace, controlled, near[: len(servers)], near[len(servers) :])
            processes.append(spawn.Process(target=run_engine_core, args=core))
            for make, (_, far) in zip([*servers, *workers], pipes, strict=True):
                processes.append(spawn.Process(target=serve, args=(make, far)))
            for process in processes:
                process.start()
        yield control
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        control.close()
        for process in processes:
            process.join()


@contextmanager
def held_signals() -> Iterator[None]:
    """Keep signals until the end of the block; processes that are started in it get none at all.

    Ctrl-C reaches all of them, but it is the first that ends the others.
    """
    resource_tracker.ensure_running()  # it lets signals through when it is started
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


if __name__ == "__main__":
    sys.exit(main())
