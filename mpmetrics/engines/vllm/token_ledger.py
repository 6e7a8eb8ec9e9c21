"""The token ledger: the sources of prompt tokens, and the tokens that an iteration worked on.

The terms are vLLM's (`vllm/v1/metrics/stats.py`). Every token of a prompt has exactly one source:
it is computed here (`local_compute`), found in the local prefix cache (`local_cache_hit`), or
loaded from elsewhere (`external_kv_transfer`). The three always sum to the prompt: an update that
would break that raises `TokenLedgerError` and changes nothing, so that no counter ever has to
decrease.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import index
from typing import TYPE_CHECKING, ClassVar, Final, Protocol, SupportsIndex, cast

from mpmetrics.engines.errors import TokenLedgerError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Prefill(Protocol):
    """The attributes that a ledger reads of a prefill, which is vLLM's or the one here."""

    num_prompt_tokens: int
    num_computed_tokens: int
    num_cached_tokens: int
    num_local_cached_tokens: int
    num_external_cached_tokens: int


@dataclass(slots=True)
class PrefillStats:
    """The tokens of one request's prompt, by source."""

    num_prompt_tokens: int = 0
    num_computed_tokens: int = 0
    num_cached_tokens: int = 0
    num_local_cached_tokens: int = 0
    num_external_cached_tokens: int = 0
    num_cache_creation_tokens: int = 0

    def set(
        self, num_prompt_tokens: int, num_local_cached_tokens: int, num_external_cached_tokens: int
    ) -> None:
        """Set the numbers that are known when the request is first scheduled.

        The other tokens have to be computed. Raises `TokenLedgerError` when more tokens are cached
        than the prompt has.
        """
        given = _to_counts(
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
        """Set `num_cache_creation_tokens` from the tokens that the cache holds in the end.

        Those are *num_tokens*; the ones that were not cached before are new. Raises
        `TokenLedgerError` for an invalid number.
        """
        (held,) = _to_counts(num_tokens=num_tokens).values()
        created = min(held, self.num_prompt_tokens) - self.num_cached_tokens
        self.num_cache_creation_tokens = max(0, created)


@dataclass(slots=True)
class PromptTokenStats:
    """The tokens of many requests' prompts, by source.

    `total` counts all tokens, `cached_tokens` those that were not computed.
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
        """Add one request's prompt.

        Raises `TokenLedgerError`, and adds nothing, if the numbers do not add up.
        """
        computed, local, external, cached, prompt = _read_prefill(prefill_stats)
        self.check()
        self.total += prompt
        self.computed += computed
        self.cached_tokens += cached
        self.local_cache_hit += local
        self.external_kv_transfer += external

    def check(self) -> None:
        """Raise `TokenLedgerError` if the attributes, which anyone can set, do not add up."""
        numbers = {
            "computed": self.computed,
            "local_cache_hit": self.local_cache_hit,
            "external_kv_transfer": self.external_kv_transfer,
            "cached_tokens": self.cached_tokens,
            "total": self.total,
        }
        _check_sums(numbers, "all")

    def get_by_source(self, source: str) -> int:
        """Return the tokens of a *source* in `ALL_SOURCES`. Raises `ValueError` for any other."""
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
    """The tokens of one iteration of an engine: those of prompts, and the generated ones."""

    prompt: PromptTokenStats = field(default_factory=PromptTokenStats)
    num_generation_tokens: int = 0

    @property
    def num_prompt_tokens(self) -> int:
        """The tokens of prompts from all sources, which `vllm:prompt_tokens` counts."""
        return self.prompt.total

    @property
    def iteration_tokens(self) -> int:
        """The computed and the generated tokens, which `vllm:iteration_tokens_total` observes.

        Tokens that were found in a cache or loaded from elsewhere took no work.
        """
        return self.prompt.computed + self.num_generation_tokens

    def check(self) -> None:
        """Raise `TokenLedgerError` if the attributes, which anyone can set, are impossible."""
        self.prompt.check()
        _to_counts(num_generation_tokens=self.num_generation_tokens)

    def update_from_output(
        self, num_new_generation_tokens: int, prefill_stats: Prefill | None = None
    ) -> None:
        """Add one request's output; only its first output has *prefill_stats*.

        Raises `TokenLedgerError`, and adds nothing, for impossible numbers.
        """
        _, generated = _to_counts(
            num_generation_tokens=self.num_generation_tokens,
            num_new_generation_tokens=num_new_generation_tokens,
        ).values()
        if prefill_stats is not None:
            self.prompt.update_from_output(prefill_stats)
        self.num_generation_tokens += generated


def prefix_hit(num_prompt_tokens: int, num_cached_tokens: int, block_size: int) -> int:
    """Return how many of the cached tokens of a prompt the local prefix cache can supply.

    The cache supplies whole blocks of *block_size* tokens, and never the last token of the prompt,
    which is computed again for its logits. Raises `TokenLedgerError` for impossible numbers.
    """
    given = _to_counts(
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
    """Return the prefill of a request when it is first scheduled.

    The first *num_cached_tokens* are in the local cache. With *remote_prefill*, another worker has
    computed the prompt, and all tokens that the local cache does not supply are loaded from it.
    """
    local = prefix_hit(num_prompt_tokens, num_cached_tokens, block_size)
    stats = PrefillStats()
    stats.set(num_prompt_tokens, local, num_prompt_tokens - local if remote_prefill else 0)
    return stats


def _to_counts(**given: object) -> Mapping[str, int]:
    """Return the *given* numbers as counts. Raises `TokenLedgerError` if one is not a count."""
    try:
        counts = {name: index(cast("SupportsIndex", number)) for name, number in given.items()}
    except TypeError as error:
        raise TokenLedgerError(given, "tokens are counted in whole numbers") from error
    if min(counts.values()) < 0:
        raise TokenLedgerError(given, "no count of tokens is negative")
    return counts


def _read_prefill(prefill: Prefill) -> tuple[int, int, int, int, int]:
    """Return the numbers of a *prefill*. Raises `TokenLedgerError` if they do not add up."""
    numbers = {
        "num_computed_tokens": prefill.num_computed_tokens,
        "num_local_cached_tokens": prefill.num_local_cached_tokens,
        "num_external_cached_tokens": prefill.num_external_cached_tokens,
        "num_cached_tokens": prefill.num_cached_tokens,
        "num_prompt_tokens": prefill.num_prompt_tokens,
    }
    return _check_sums(numbers, "the prompt")


def _check_sums(numbers: Mapping[str, object], whole: str) -> tuple[int, int, int, int, int]:
    """Return *numbers* as counts; they are computed, local, external, cached, and all tokens.

    Raises `TokenLedgerError` if they do not add up; *whole* is its word for all tokens.
    """
    counts = _to_counts(**numbers)
    computed, local, external, cached, total = counts.values()
    if local + external != cached:
        raise TokenLedgerError(counts, "local and external tokens are not the cached ones")
    if computed + cached != total:
        raise TokenLedgerError(counts, f"computed and cached tokens are not {whole}")
    return computed, local, external, cached, total
