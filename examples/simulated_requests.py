"""The requests of `vllm_simulation.py`: a trace that a seed determines.

The events of a request are given as steps of the engine, and the trace has the duration of each
step: nothing here reads a clock.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

MODEL = "example/simulated-8b"
SERVED_AS = "simulated"
"""The model, and the name under which it is served."""

BLOCK = 16
"""The tokens in a block of vLLM's cache."""

CHUNK = 256
"""The tokens in a chunk of LMCache."""

ROOM = 64
"""The chunks that LMCache keeps in the CPU's memory."""


class Prompt(NamedTuple):
    """The prompt of a client, with one answer or several (`n`), each of which is a `Request`."""

    number: int
    api_server: int
    arrived: int
    """The step of the engine at whose end the prompt is queued."""
    delay: float
    """The seconds that the prompt spent in the API server before."""
    tokens: int
    max_tokens: int
    """The limit of tokens of an answer; 0 for no limit."""


class Cached(NamedTuple):
    """The tokens of a prompt that need not be computed, and LMCache's work on the others."""

    local: int
    """The tokens that vLLM finds, in whole blocks."""
    found: int
    """The tokens that LMCache finds, in whole chunks from the start."""
    stored: int
    evicted: int
    """The chunks that LMCache drops to make room."""
    lookup_seconds: float
    load_seconds: float
    store_seconds: float

    @property
    def external(self) -> int:
        """The tokens that LMCache has and vLLM does not."""
        return max(0, self.found - self.local)

    @property
    def loaded(self) -> int:
        """The tokens that LMCache loads for those, in whole chunks."""
        return self.found - self.local // CHUNK * CHUNK if self.external else 0


class Request(NamedTuple):
    """One answer, as the steps of the engine in which something happens to it."""

    prompt: Prompt
    cached: Cached
    fetching: int
    """The first step in which the request waits for tokens from elsewhere."""
    admitted: int
    steps: tuple[int, ...]
    """The steps that give a token each; a gap between two of them is a preemption."""
    finish_reason: str

    def is_resumed(self, step: int) -> bool:
        """Return whether the request was preempted before the token of this *step*."""
        return step != self.steps[0] and step - 1 not in self.steps

    @property
    def preemptions(self) -> int:
        """How often the request was preempted."""
        return sum(map(self.is_resumed, self.steps))


class Trace(NamedTuple):
    """All requests, and the end time of each step of the engine; step 0 is the start."""

    requests: Sequence[Request]
    clock: Sequence[float]

    def siblings(self, request: Request) -> list[Request]:
        """Return all answers to the prompt of a request, in the order of their ends."""
        answers = [each for each in self.requests if each.prompt == request.prompt]
        return sorted(answers, key=lambda each: each.steps[-1])


def make_trace(seed: int, count: int, api_servers: int = 2) -> Trace:
    """Return a trace of *count* requests, always the same for the same arguments.

    All times are multiples of a power of two, and so are their divisors. So sums of them are exact
    in any order, and do not depend on which process counts which request.
    """
    chance = Random(seed)
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
    """Return the caching of a prompt, of which at least one token has to be computed."""
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
