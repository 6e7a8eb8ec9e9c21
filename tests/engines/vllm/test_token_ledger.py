"""The token ledger: three sources that sum to the prompt, or an error and no change."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from mpmetrics.engines.errors import TokenLedgerError
from mpmetrics.engines.vllm.token_ledger import (
    IterationTokens,
    PrefillStats,
    PromptTokenStats,
    first_schedule,
    prefix_hit,
)
from mpmetrics.engines.vllm.token_metrics import TokenMetrics
from mpmetrics.errors import MpmetricsError
from tests.engines.endpoints import series


def prefill(prompt: int, local: int = 0, external: int = 0) -> PrefillStats:
    """Return the prefill of a prompt."""
    stats = PrefillStats()
    stats.set(prompt, local, external)
    return stats


@pytest.mark.parametrize(
    ("local", "external", "computed"),
    [
        (0, 0, 1000),
        (300, 0, 700),
        (0, 500, 500),
        (400, 200, 400),
        (999, 0, 1),
        (0, 999, 1),
        (0, 1000, 0),
    ],
)
def test_what_is_not_cached_is_computed(local: int, external: int, computed: int) -> None:
    """The tokens of a prompt that are not cached are computed."""
    stats = PromptTokenStats()
    stats.update_from_output(prefill(1000, local, external))
    assert asdict(stats) == {
        "computed": computed,
        "local_cache_hit": local,
        "external_kv_transfer": external,
        "cached_tokens": local + external,
        "total": 1000,
    }


# A prompt on a worker that decodes: block size, tokens of the prompt, tokens at its beginning that
# the local cache has, whether another worker has computed it; external, local, computed tokens.
DECODE: list[tuple[int, int, int, bool, tuple[int, int, int]]] = [
    (128, 200, 0, True, (200, 0, 0)),
    (128, 200, 200, True, (72, 128, 0)),
    (128, 300, 300, True, (44, 256, 0)),
    (128, 300, 200, True, (172, 128, 0)),
    (128, 127, 127, True, (127, 0, 0)),
    (128, 129, 129, True, (1, 128, 0)),
    (128, 128, 128, True, (128, 0, 0)),
    (128, 256, 256, True, (128, 128, 0)),
    (128, 256, 128, True, (128, 128, 0)),
    (128, 200, 0, False, (0, 0, 200)),
    (128, 200, 200, False, (0, 128, 72)),
    (128, 256, 256, False, (0, 128, 128)),
    (16, 200, 0, True, (200, 0, 0)),
    (16, 200, 200, True, (8, 192, 0)),
    (16, 200, 100, True, (104, 96, 0)),
    (16, 129, 129, True, (1, 128, 0)),
    (16, 128, 128, True, (16, 112, 0)),
    (16, 48, 48, False, (0, 32, 16)),
    (16, 1, 1, True, (1, 0, 0)),
]


@pytest.mark.parametrize(("block", "prompt", "cached", "remote", "sources"), DECODE)
def test_prefill_and_decode_on_different_workers(
    block: int, prompt: int, cached: int, *, remote: bool, sources: tuple[int, int, int]
) -> None:
    """The local cache never supplies the last token of a prompt, nor the block of that token."""
    stats = PromptTokenStats()
    stats.update_from_output(first_schedule(prompt, cached, block, remote_prefill=remote))
    external, local, computed = sources
    assert [stats.get_by_source(source) for source in PromptTokenStats.ALL_SOURCES] == [
        computed,
        local,
        external,
    ]
    assert stats.total == prompt


@given(
    prompt=st.integers(1, 5000),
    cached=st.integers(0, 6000),
    block=st.sampled_from([1, 16, 128]),
    remote=st.booleans(),
)
def test_the_sources_always_sum_to_the_prompt(
    *, prompt: int, cached: int, block: int, remote: bool
) -> None:
    """The sources sum to the prompt, and the local cache supplies whole blocks before its end."""
    stats = PromptTokenStats()
    stats.update_from_output(first_schedule(prompt, cached, block, remote_prefill=remote))
    assert sum(map(stats.get_by_source, PromptTokenStats.ALL_SOURCES)) == prompt
    assert stats.local_cache_hit == prefix_hit(prompt, cached, block)
    assert stats.local_cache_hit % block == 0
    assert stats.local_cache_hit < prompt


@pytest.mark.parametrize(
    ("prompts", "generated", "observed", "counted"),
    [
        ([(1000, 0, 1000)], 1, 1, 1000),
        ([(1000, 300, 0)], 5, 705, 1000),
        ([(1000, 0, 1000), (1000, 300, 0)], 6, 706, 2000),
        ([], 7, 7, 0),
        ([(10, 0, 0)], 0, 10, 10),
    ],
)
def test_tokens_of_an_iteration(
    prompts: list[tuple[int, int, int]], generated: int, observed: int, counted: int
) -> None:
    """An iteration counts computed and generated tokens, the prompt counter all prompt tokens."""
    tokens = IterationTokens()
    for prompt, local, external in prompts:
        tokens.update_from_output(0, prefill(prompt, local, external))
    tokens.update_from_output(generated)
    assert (tokens.iteration_tokens, tokens.num_prompt_tokens) == (observed, counted)


@pytest.mark.parametrize(
    ("prompt", "held", "created"),
    [(1000, 1000, 400), (1000, 2000, 400), (1000, 700, 100), (1000, 500, 0), (1000, 0, 0)],
)
def test_tokens_that_are_new_in_the_cache(prompt: int, held: int, created: int) -> None:
    """New in the cache are tokens of the prompt that it holds and that were not cached before."""
    stats = prefill(prompt, 400, 200)
    stats.finalize(held)
    assert stats.num_cache_creation_tokens == created


@pytest.mark.parametrize(
    "arguments",
    [
        (100, 60, 41),
        (100, 101, 0),
        (-1, 0, 0),
        (100, -1, 0),
        (100, 0, -5),
        (100.5, 0, 0),
        ("a", 0, 0),
    ],
)
def test_impossible_prefills_are_errors_that_change_nothing(arguments: tuple[Any, ...]) -> None:
    """An impossible prefill is an error that has the numbers, and changes nothing."""
    stats = prefill(10, 3, 2)
    before = replace(stats)
    with pytest.raises(TokenLedgerError) as raised:
        stats.set(*arguments)
    assert list(raised.value.numbers.values()) == list(arguments)
    assert all(repr(number) in str(raised.value) for number in arguments)
    assert stats == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_computed_tokens": 701},
        {"num_cached_tokens": 299},
        {"num_local_cached_tokens": -1, "num_external_cached_tokens": 301},
        {"num_external_cached_tokens": 1},
        {"num_prompt_tokens": 999},
        {"num_prompt_tokens": None},
    ],
    ids=str,
)
def test_a_prefill_that_does_not_add_up_is_not_counted(wrong: dict[str, Any]) -> None:
    """Of an output whose prefill does not add up, no tokens are counted."""
    tokens = IterationTokens()
    tokens.update_from_output(2, prefill(10, 3, 2))
    before = asdict(tokens)
    with pytest.raises(TokenLedgerError) as raised:
        tokens.update_from_output(1, replace(prefill(1000, 300), **wrong))
    assert isinstance(raised.value, MpmetricsError)
    assert isinstance(raised.value, ValueError)
    assert asdict(tokens) == before


@pytest.mark.parametrize("generated", [-1, 1.5, None])
def test_generated_tokens_are_a_whole_number(generated: Any) -> None:
    """With an invalid number of generated tokens, the prompt is not counted, either."""
    tokens = IterationTokens()
    with pytest.raises(TokenLedgerError):
        tokens.update_from_output(generated, prefill(10))
    assert tokens == IterationTokens()


@pytest.mark.parametrize(
    "wrong",
    [{"computed": -5, "total": -5}, {"computed": 5}, {"cached_tokens": 1, "total": 1}],
    ids=["negative", "total", "cached"],
)
def test_a_ledger_that_does_not_add_up_is_not_added_to(wrong: dict[str, int]) -> None:
    """If the attributes of a ledger do not add up, the next update raises and changes nothing."""
    stats = PromptTokenStats(**wrong)
    as_before = PromptTokenStats(**wrong)
    prefill = PrefillStats()
    prefill.set(100, 10, 20)
    with pytest.raises(TokenLedgerError, match=r"computed=.*total="):
        stats.update_from_output(prefill)
    assert stats == as_before


def test_an_iteration_with_a_negative_count() -> None:
    """An update of an iteration with a negative count raises."""
    tokens = IterationTokens(num_generation_tokens=-1)
    with pytest.raises(TokenLedgerError, match="num_generation_tokens=-1"):
        tokens.update_from_output(5)


def test_there_are_three_sources() -> None:
    """There are three sources, named by the values of a label."""
    names = ("local_compute", "local_cache_hit", "external_kv_transfer")
    assert names == PromptTokenStats.ALL_SOURCES
    with pytest.raises(ValueError, match="Unknown source: elsewhere"):
        PromptTokenStats().get_by_source("elsewhere")


def test_a_block_size_of_zero() -> None:
    """A block size of 0 is a `TokenLedgerError`, and no division by zero."""
    with pytest.raises(TokenLedgerError, match="block_size=0"):
        prefix_hit(10, 10, 0)


def read_metrics(registry: CollectorRegistry) -> dict[str, float]:
    """Return the series of the metrics without buckets and without the labels of the engine."""
    page = series(generate_latest(registry).decode())
    return {
        name.replace("engine=1,model_name=m", "").replace("{,", "{").replace("{}", ""): value
        for name, value in page.items()
        if "_bucket" not in name
    }


def test_the_metrics_of_tokens() -> None:
    """The metrics start at 0; the counter has all prompt tokens, the histogram those worked on."""
    registry = CollectorRegistry()
    metrics = TokenMetrics(registry, "m", 1)
    assert set(read_metrics(registry).values()) == {0}
    for prompt, generated in [((1000, 0, 1000), 1), ((1000, 300, 0), 5)]:
        tokens = IterationTokens()
        tokens.update_from_output(generated, prefill(*prompt))
        metrics.record(tokens)
    assert read_metrics(registry) == {
        "vllm:prompt_tokens_total": 2000,
        "vllm:prompt_tokens_cached_total": 1300,
        "vllm:prompt_tokens_by_source_total{source=local_compute}": 700,
        "vllm:prompt_tokens_by_source_total{source=local_cache_hit}": 300,
        "vllm:prompt_tokens_by_source_total{source=external_kv_transfer}": 1000,
        "vllm:generation_tokens_total": 6,
        "vllm:iteration_tokens_total_count": 2,
        "vllm:iteration_tokens_total_sum": 706,
    }


@pytest.mark.parametrize(
    "wrong",
    [{"local_cache_hit": -1, "computed": 11}, {"total": 11}, {"cached_tokens": 3}, {"total": 1.5}],
    ids=str,
)
def test_tokens_that_do_not_add_up_are_not_recorded(wrong: dict[str, Any]) -> None:
    """Of tokens that do not add up, no metric counts anything."""
    registry = CollectorRegistry()
    metrics = TokenMetrics(registry)
    prompt = replace(PromptTokenStats(computed=10, total=10), **wrong)
    with pytest.raises(TokenLedgerError):
        metrics.record(IterationTokens(prompt, 5))
    assert set(read_metrics(registry).values()) == {0}


def test_two_engines_share_a_registry() -> None:
    """Two engines in one registry share the metrics."""
    registry = CollectorRegistry()
    for engine in range(2):
        TokenMetrics(registry, "m", engine).record(IterationTokens(num_generation_tokens=engine))
    page = series(generate_latest(registry).decode())
    assert page["vllm:generation_tokens_total{engine=0,model_name=m}"] == 0
    assert page["vllm:generation_tokens_total{engine=1,model_name=m}"] == 1
