"""The tables of families: they are complete, and prometheus_client accepts every row."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from mpmetrics.engines.families import LMCACHE_FAMILIES, VLLM_FAMILIES, Family
from mpmetrics.engines.families.vllm import MAX_MODEL_LEN, token_edges
from mpmetrics.engines.prefixes import LMCACHE, VLLM
from mpmetrics.merging.rules import RULES
from tests.workers import environment, run_python

FAMILIES = [*VLLM_FAMILIES, *LMCACHE_FAMILIES]

every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def test_the_table_of_lmcache_is_complete() -> None:
    """The table of LMCache has 94 families, of which 42 gauges never reach files, and 13 more.

    Those are the gauges of the cache controller, which all are callbacks.
    """
    of_the_controller = [each for each in LMCACHE_FAMILIES if "cache_controller" in each.name]
    by_callback = [family for family in LMCACHE_FAMILIES if not family.in_files]
    assert (len(LMCACHE_FAMILIES), len(by_callback)) == (94 + 13, 42 + 13)
    assert {(each.labels, each.mode) for each in of_the_controller} == {
        (("role",), "livemostrecent")
    }
    assert {family.type for family in by_callback} == {"gauge"}


def test_names_are_unique() -> None:
    """Each family has exactly one row."""
    names = [family.name for family in FAMILIES]
    assert sorted(set(names)) == sorted(names)


def test_each_table_has_a_prefix() -> None:
    """The prefix of an engine selects every family of its table and no other family."""
    assert {family.name.startswith(VLLM) for family in VLLM_FAMILIES} == {True}
    assert {family.name.startswith(LMCACHE) for family in LMCACHE_FAMILIES} == {True}


@every_family
def test_each_row_has_what_its_type_needs(family: Family) -> None:
    """A gauge has a known multiprocess mode, a histogram has rising buckets, others neither."""
    assert (family.type, family.mode) in RULES
    assert bool(family.buckets) == (family.type == "histogram")
    assert all(low < high for low, high in pairwise(family.buckets))
    assert len(set(family.labels)) == len(family.labels)
    assert family.help


@every_family
def test_only_families_of_workers_have_a_rollup(family: Family) -> None:
    """A family in files with `worker_id` has a roll-up, which is "merge" for histograms only."""
    assert bool(family.rollup) == ("worker_id" in family.labels and family.in_files)
    assert (family.rollup == "merge") == (bool(family.rollup) and family.type == "histogram")


@every_family
def test_prometheus_client_accepts_each_row(family: Family) -> None:
    """prometheus_client makes a metric of each row, with the row's name and type."""
    kinds: dict[str, Any] = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}
    options: dict[str, dict[str, Any]] = {
        "gauge": {"multiprocess_mode": family.mode},
        "histogram": {"buckets": family.buckets},
    }
    more: dict[str, Any] = options.get(family.type, {})
    registry = CollectorRegistry()
    kinds[family.type](family.name, family.help, family.labels, registry=registry, **more)

    (collected,) = registry.collect()
    name = family.name.removesuffix("_total") if family.type == "counter" else family.name
    assert (collected.name, collected.type) == (name, family.type)


@pytest.mark.parametrize(
    ("most", "edges"),
    [
        pytest.param(1, [1], id="one"),
        pytest.param(100, [1, 2, 5, 10, 20, 50, 100], id="an-edge"),
        pytest.param(1024, [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000], id="between-edges"),
    ],
)
def test_token_buckets(most: int, edges: list[float]) -> None:
    """The buckets of tokens end at the largest bound that the longest context reaches."""
    assert list(token_edges(most)) == edges


def test_token_buckets_of_the_tables() -> None:
    """With the context length of the tables, the buckets of tokens end at 20,000."""
    assert max(token_edges(MAX_MODEL_LEN)) == 20_000


def test_the_tables_import_neither_client_nor_engine() -> None:
    """Reading the tables imports neither prometheus_client nor an engine."""
    program = (
        "import sys\n"
        "from mpmetrics.engines.families import *\n"
        "print(*{'prometheus_client', 'vllm', 'lmcache'} & sys.modules.keys())"
    )
    assert run_python(program, env=environment(None)) == "\n"
