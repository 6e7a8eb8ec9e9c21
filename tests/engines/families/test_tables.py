"""What engines emit: the tables are whole, and prometheus_client takes every row of them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from mpmetrics.engines.families.tables import (
    LMCACHE_FAMILIES,
    MAX_MODEL_LEN,
    VLLM_FAMILIES,
    Family,
    token_edges,
)
from mpmetrics.engines.prefixes import LMCACHE, VLLM
from mpmetrics.merging.rules import RULES
from tests.workers import environment, run_python

FAMILIES = [*VLLM_FAMILIES, *LMCACHE_FAMILIES]

every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def test_lmcache_is_whole() -> None:
    """Of the 94 families there, 42 never get into files, and all of those are gauges."""
    by_callback = [family for family in LMCACHE_FAMILIES if not family.in_files]
    assert (len(LMCACHE_FAMILIES), len(by_callback)) == (94, 42)
    assert {family.type for family in by_callback} == {"gauge"}


def test_no_name_is_there_twice() -> None:
    """Each family has one row."""
    names = [family.name for family in FAMILIES]
    assert sorted(set(names)) == sorted(names)


def test_the_tables_are_told_apart_by_prefix() -> None:
    """The prefix to filter by is that of every family, and of no other."""
    assert {family.name.startswith(VLLM) for family in VLLM_FAMILIES} == {True}
    assert {family.name.startswith(LMCACHE) for family in LMCACHE_FAMILIES} == {True}


@every_family
def test_each_row_has_what_its_type_needs(family: Family) -> None:
    """A gauge has a mode that can be merged, a histogram has buckets that rise; others neither."""
    assert (family.type, family.mode) in RULES
    assert bool(family.buckets) == (family.type == "histogram")
    assert all(low < high for low, high in pairwise(family.buckets))
    assert len(set(family.labels)) == len(family.labels)
    assert family.help


@every_family
def test_only_files_of_workers_are_rolled_up(family: Family) -> None:
    """What each worker counts, and only that, has a roll-up; that of a histogram is to merge."""
    assert bool(family.rollup) == ("worker_id" in family.labels and family.in_files)
    assert (family.rollup == "merge") == (bool(family.rollup) and family.type == "histogram")


@every_family
def test_the_client_takes_it(family: Family) -> None:
    """Each can be made as the engine makes it, and has the name that it shall have."""
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
def test_edges_of_tokens(most: int, edges: list[float]) -> None:
    """They go up to the longest context and not beyond."""
    assert list(token_edges(most)) == edges


def test_edges_of_a_common_model() -> None:
    """The longest context of the tables ends at 20,000."""
    assert max(token_edges(MAX_MODEL_LEN)) == 20_000


def test_neither_client_nor_engine_is_imported() -> None:
    """The tables can be read before anybody decides where metrics are written to."""
    program = (
        "import sys\n"
        "import mpmetrics.engines.families.tables\n"
        "print(*{'prometheus_client', 'vllm', 'lmcache'} & sys.modules.keys())"
    )
    assert run_python(program, env=environment(None)) == "\n"
