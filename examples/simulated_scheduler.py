"""The scheduler of `vllm_simulation.py`: the messages of the engine core to the other processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from examples.simulated_requests import BLOCK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from examples.simulated_requests import Trace

NUM_BLOCKS = 32_768
"""The blocks in the cache of the engine."""


class Snapshot(NamedTuple):
    """The scheduler's statistics of a step: requests by state, and cache hits of those admitted."""

    running: int
    capacity: int
    deferred: int
    kv_cache_usage: float
    queries: int
    hits: int
    external_queries: int
    external_hits: int


class Step(NamedTuple):
    """A message of the engine core: a step, the numbers of its requests, and maybe a snapshot."""

    number: int
    requests: Sequence[int]
    snapshot: Snapshot | None = None


def make_worker_message(trace: Trace, number: int) -> Step:
    """Return the message of a step for workers: the requests that are admitted."""
    admitted = [at for at, each in enumerate(trace.requests) if each.admitted == number]
    return Step(number, admitted)


def make_server_messages(trace: Trace, number: int) -> Mapping[int, Step]:
    """Return the messages of a step for API servers: the requests that have got a token.

    Only one server gets the snapshot: the first of them, or server 0 if there is no request.
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
    """Return the scheduler's statistics after a step."""
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
