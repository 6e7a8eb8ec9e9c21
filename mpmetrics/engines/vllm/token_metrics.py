"""vLLM's metrics of tokens, recorded from the token ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mpmetrics.engines.families import VLLM_FAMILIES, register_families
from mpmetrics.engines.vllm.token_ledger import PromptTokenStats

if TYPE_CHECKING:
    from mpmetrics.engines.vllm.token_ledger import IterationTokens

_NAMES: Final = frozenset(
    {
        "vllm:prompt_tokens",
        "vllm:prompt_tokens_by_source",
        "vllm:prompt_tokens_cached",
        "vllm:generation_tokens",
        "vllm:iteration_tokens_total",
    }
)

_FAMILIES: Final = tuple(family for family in VLLM_FAMILIES if family.name in _NAMES)


class TokenMetrics:
    """The token metrics of one engine, which are 0 before the first iteration."""

    def __init__(
        self,
        registry: Any = None,
        model_name: str = "",
        engine: int | str = 0,
    ) -> None:
        """Make the metrics in *registry* (None: the global one), or share those of another object.

        Raises `ValueError`, as prometheus_client does, when vLLM itself has made them there.
        """
        metrics = register_families(_FAMILIES, registry)
        labels = {"model_name": model_name, "engine": str(engine)}
        self._prompt = metrics["vllm:prompt_tokens"].labels(**labels)
        self._cached = metrics["vllm:prompt_tokens_cached"].labels(**labels)
        self._generated = metrics["vllm:generation_tokens"].labels(**labels)
        self._iteration = metrics["vllm:iteration_tokens_total"].labels(**labels)
        self._by_source = {
            source: metrics["vllm:prompt_tokens_by_source"].labels(**labels, source=source)
            for source in PromptTokenStats.ALL_SOURCES
        }

    def record(self, tokens: IterationTokens) -> None:
        """Count one iteration: all prompt tokens, and the tokens that were worked on.

        Raises `TokenLedgerError`, before anything is counted, for impossible numbers.
        """
        tokens.check()
        self._prompt.inc(tokens.num_prompt_tokens)
        self._cached.inc(tokens.prompt.cached_tokens)
        self._generated.inc(tokens.num_generation_tokens)
        self._iteration.observe(tokens.iteration_tokens)
        for source, counter in self._by_source.items():
            counter.inc(tokens.prompt.get_by_source(source))
