"""The token ledger: where the tokens of prompts come from, and what an iteration worked on.

The terms are vLLM's (`vllm/v1/metrics/stats.py`). Every token of a prompt has exactly one source:
it is computed here (`local_compute`), found in the local prefix cache (`local_cache_hit`), or
loaded from elsewhere (`external_kv_transfer`). The three sum to the prompt, always: an update
that would break that raises `TokenLedgerError` and changes nothing, so that no counter is ever
asked to go down.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import index
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from mpmetrics.engines.errors import TokenLedgerError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Prefill(Protocol):
    """What a ledger reads of one request's prefill: vLLM's `PrefillStats`, or the one here."""

    num_prompt_tokens: int
    num_computed_tokens: int
    num_cached_tokens: int
    num_local_cached_tokens: int
    num_external_cached_tokens: int


@dataclass(slots=True)
class PrefillStats:
    """The prompt of one request, in tokens, by where they came from."""

    num_prompt_tokens: int = 0
    num_computed_tokens: int = 0
    num_cached_tokens: int = 0
    num_local_cached_tokens: int = 0
    num_external_cached_tokens: int = 0
    num_cache_creation_tokens: int = 0

    def set(
        self, num_prompt_tokens: int, num_local_cached_tokens: int, num_external_cached_tokens: int
    ) -> None:
        """Take what is known when the request is first scheduled; the rest is to be computed.

        Raises `TokenLedgerError` when more is cached than was asked.
        """
        given = _counts(
            num_prompt_tokens=num_prompt_tokens,
            num_local_cached_tokens=num_local_cached_tokens,
            num_external_cached_tokens=num_external_cached_tokens,
        )
        prompt, local, external = given.values()
        if local + external > prompt:
            raise TokenLedgerError(given, "more tokens are cached than the prompt has")
        self.num_prompt_tokens = prompt
        self.num_local_cached_tokens = local
        self.num_external_cached_tokens = external
        self.num_cached_tokens = local + external
        self.num_computed_tokens = prompt - self.num_cached_tokens

    def finalize(self, num_tokens: int) -> None:
        """Take how many tokens of the prompt the cache holds now (*num_tokens*).

        What was not there before is `num_cache_creation_tokens`. Raises `TokenLedgerError`.
        """
        (held,) = _counts(num_tokens=num_tokens).values()
        created = min(held, self.num_prompt_tokens) - self.num_cached_tokens
        self.num_cache_creation_tokens = max(0, created)


@dataclass(slots=True)
class PromptTokenStats:
    """The prompts of many requests, in tokens, by where they came from.

    `total` is all tokens, `cached_tokens` those that were not computed.
    """

    computed: int = 0
    local_cache_hit: int = 0
    external_kv_transfer: int = 0
    cached_tokens: int = 0
    total: int = 0

    ALL_SOURCES: ClassVar[tuple[str, ...]] = (
        "local_compute",
        "local_cache_hit",
        "external_kv_transfer",
    )

    def update_from_output(self, prefill_stats: Prefill) -> None:
        """Add one request's prompt. Raises `TokenLedgerError`, and adds nothing, if it is off."""
        computed, local, external, cached, prompt = _sound(prefill_stats)
        self.check()
        self.total += prompt
        self.computed += computed
        self.cached_tokens += cached
        self.local_cache_hit += local
        self.external_kv_transfer += external

    def check(self) -> None:
        """Raise `TokenLedgerError` if somebody has changed a number so that they disagree."""
        numbers = {
            "computed": self.computed,
            "local_cache_hit": self.local_cache_hit,
            "external_kv_transfer": self.external_kv_transfer,
            "cached_tokens": self.cached_tokens,
            "total": self.total,
        }
        _agreed(numbers, "all")

    def get_by_source(self, source: str) -> int:
        """Return the tokens of one of `ALL_SOURCES`. Raises `ValueError` for any other."""
        if source not in _FIELDS:
            message = f"Unknown source: {source}"
            raise ValueError(message)
        return int(getattr(self, _FIELDS[source]))


_FIELDS: Final = dict(
    zip(
        PromptTokenStats.ALL_SOURCES,
        ("computed", "local_cache_hit", "external_kv_transfer"),
        strict=True,
    )
)


@dataclass(slots=True)
class IterationTokens:
    """What one iteration of an engine worked on: prompts in *prompt*, and generated tokens."""

    prompt: PromptTokenStats = field(default_factory=PromptTokenStats)
    num_generation_tokens: int = 0

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of prompts from all sources: what `vllm:prompt_tokens` counts."""
        return self.prompt.total

    @property
    def iteration_tokens(self) -> int:
        """Tokens that were worked on: what `vllm:iteration_tokens_total` observes.

        Those are the computed and the generated ones. What was found in a cache or loaded from
        elsewhere took no work.
        """
        return self.prompt.computed + self.num_generation_tokens

    def check(self) -> None:
        """Raise `TokenLedgerError` if somebody has changed a number so that it cannot be."""
        self.prompt.check()
        _counts(num_generation_tokens=self.num_generation_tokens)

    def update_from_output(
        self, num_new_generation_tokens: int, prefill_stats: Prefill | None = None
    ) -> None:
        """Add one request's output; *prefill_stats* come with its first only.

        Raises `TokenLedgerError`, and adds nothing, when the numbers cannot be.
        """
        _, generated = _counts(
            num_generation_tokens=self.num_generation_tokens,
            num_new_generation_tokens=num_new_generation_tokens,
        ).values()
        if prefill_stats is not None:
            self.prompt.update_from_output(prefill_stats)
        self.num_generation_tokens += generated


def prefix_hit(num_prompt_tokens: int, num_cached_tokens: int, block_size: int) -> int:
    """Return how many of the cached tokens of a prompt a local prefix cache can give.

    Only whole blocks of *block_size* tokens are found, and never the last token: that is run
    again, for its logits. Raises `TokenLedgerError`.
    """
    given = _counts(
        num_prompt_tokens=num_prompt_tokens,
        num_cached_tokens=num_cached_tokens,
        block_size=block_size,
    )
    prompt, cached, size = given.values()
    if size == 0:
        raise TokenLedgerError(given, "a block has at least one token")
    return max(0, min(cached, prompt - 1)) // size * size


def first_schedule(
    num_prompt_tokens: int, num_cached_tokens: int, block_size: int, *, remote_prefill: bool = False
) -> PrefillStats:
    """Return the prefill of a request as it is when first scheduled.

    *num_cached_tokens* at its beginning are in the local cache. With *remote_prefill* another
    worker has computed the prompt, and all that is not found locally is loaded from there.
    """
    local = prefix_hit(num_prompt_tokens, num_cached_tokens, block_size)
    stats = PrefillStats()
    stats.set(num_prompt_tokens, local, num_prompt_tokens - local if remote_prefill else 0)
    return stats


def _counts(**given: object) -> Mapping[str, int]:
    """Return what was *given* as whole numbers. Raises `TokenLedgerError` for what is none."""
    try:
        counts = {name: index(number) for name, number in given.items()}  # type: ignore[arg-type]
    except TypeError as error:
        raise TokenLedgerError(given, "tokens are counted in whole numbers") from error
    if min(counts.values()) < 0:
        raise TokenLedgerError(given, "no count of tokens is negative")
    return counts


def _sound(prefill: Prefill) -> tuple[int, int, int, int, int]:
    """Return the numbers of a *prefill* once they agree. Raises `TokenLedgerError`."""
    numbers = {
        "num_computed_tokens": prefill.num_computed_tokens,
        "num_local_cached_tokens": prefill.num_local_cached_tokens,
        "num_external_cached_tokens": prefill.num_external_cached_tokens,
        "num_cached_tokens": prefill.num_cached_tokens,
        "num_prompt_tokens": prefill.num_prompt_tokens,
    }
    return _agreed(numbers, "the prompt")


def _agreed(numbers: Mapping[str, object], whole: str) -> tuple[int, int, int, int, int]:
    """Return tokens that are computed, local, external, cached, and all, which are the *whole*.

    They come in this order. Raises `TokenLedgerError` unless they add up.
    """
    counts = _counts(**numbers)
    computed, local, external, cached, total = counts.values()
    if local + external != cached:
        raise TokenLedgerError(counts, "local and external tokens are not the cached ones")
    if computed + cached != total:
        raise TokenLedgerError(counts, f"computed and cached tokens are not {whole}")
    return computed, local, external, cached, total
