"""The requests of `vllm_simulation.py`: a trace that is the same for the same seed.

What happens to a request is given in steps of the engine, and how long each of them takes is given,
too: nothing here looks at a clock.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

MODEL = "example/simulated-8b"
SERVED_AS = "simulated"
"""The model, and the name by which clients ask for it."""

BLOCK = 16
"""Tokens in a block of vLLM's cache."""

CHUNK = 256
"""Tokens in a chunk of LMCache."""

ROOM = 64
"""Chunks that LMCache keeps in the CPU's memory."""


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
