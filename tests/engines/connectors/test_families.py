"""The families that connectors declare: checks, defaults, lookup, and the known ones."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
from prometheus_client import Histogram

from mpmetrics.engines import (
    CONNECTOR_FAMILIES,
    ConnectorConflictError,
    ConnectorDeclarationError,
    ConnectorFamily,
    ConnectorStats,
    ConnectorSummary,
    offload_info,
)
from mpmetrics.engines.connectors import OFFLOAD_SETTINGS
from mpmetrics.engines.connectors.families import FIGURES, unite_families
from mpmetrics.engines.connectors.lookup import collect_families, find_families
from mpmetrics.engines.families import VLLM_FAMILIES
from tests.engines.connectors.fakes import FakeConnector, NixlPullConnector, OtherConnector

KNOWN = {family.name: family for each in CONNECTOR_FAMILIES.values() for family in each}


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        pytest.param({"type": "summary"}, "unknown type 'summary'", id="type"),
        pytest.param({"name": "a name"}, "not a valid metric name", id="name"),
        pytest.param({"merge": "latest"}, "a counter merges by sum only", id="counter-latest"),
        pytest.param({"type": "gauge", "merge": "extend"}, "latest, max, sum", id="gauge-extend"),
        pytest.param({"type": "histogram"}, "a histogram has buckets", id="no-buckets"),
        pytest.param({"buckets": (1,)}, "nothing else has", id="buckets-of-a-counter"),
        pytest.param({"type": "histogram", "buckets": (2, 1)}, "have to rise", id="falling"),
        pytest.param({"type": "histogram", "buckets": (1, 1)}, "have to rise", id="twice"),
        pytest.param({"labels": ("a", "a")}, "each its own", id="label-twice"),
        pytest.param({"labels": ("__a",)}, "labels need names", id="label-of-prometheus"),
        pytest.param({"labels": ("engine",)}, "are reserved", id="label-of-the-engine"),
        pytest.param({"labels": ("connector",)}, "are reserved", id="label-of-the-connector"),
        pytest.param(
            {"type": "histogram", "buckets": (1,), "labels": ("le",)}, "are reserved", id="le"
        ),
        pytest.param({"mode": "max"}, "only a gauge has a mode", id="mode-of-a-counter"),
        pytest.param(
            {"type": "histogram", "buckets": (math.nan,)}, "have to rise", id="bucket-of-nan"
        ),
        pytest.param({"type": "histogram", "buckets": ("1",)}, "are numbers", id="bucket-of-text"),
        pytest.param({"type": "histogram", "buckets": 5}, "are numbers", id="one-bucket"),
        pytest.param(
            {"summaries": (ConnectorSummary("Jobs", "median"),)}, "count, mean", id="unknown-figure"
        ),
    ],
)
def test_an_invalid_family(wrong: dict[str, Any], why: str) -> None:
    """An invalid declaration is an error of one line that names the family."""
    with pytest.raises(ConnectorDeclarationError) as caught:
        ConnectorFamily(**{"name": "jobs", "type": "counter", **wrong})
    assert why in str(caught.value)
    assert str(caught.value).startswith(f"connector family {wrong.get('name', 'jobs')!r}: ")
    assert isinstance(caught.value, ValueError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    ("kind", "said", "merge", "mode"),
    [
        ("counter", "", "sum", ""),
        ("gauge", "", "latest", "mostrecent"),
        ("gauge", "max", "max", "max"),
        ("gauge", "sum", "sum", "livesum"),
    ],
)
def test_defaults_of_a_family(kind: str, said: str, merge: str, mode: str) -> None:
    """A type has a default merge, a merge a multiprocess mode, and the name gives the keys."""
    family = ConnectorFamily("a:jobs", kind, merge=said)
    assert (family.merge, family.mode) == (merge, mode)
    assert family.keys == ("a:jobs", "jobs")
    assert family.help == "a:jobs"


def test_one_name_as_text() -> None:
    """A single label or key may be given as text, which is not split into letters."""
    names: dict[str, Any] = {"labels": "tier", "keys": "done"}
    family = ConnectorFamily("jobs", "counter", **names)
    assert (family.labels, family.keys) == (("tier",), ("done",))


def test_every_figure_can_be_computed() -> None:
    """Each way of a summary that may be declared can be computed."""
    summaries = tuple(ConnectorSummary(how, how) for how in FIGURES)
    family = ConnectorFamily("jobs", "counter", summaries=summaries)
    figures = ConnectorStats({"jobs": [1, 3]}, [family]).reduce()
    assert figures == {"count": 2, "sum": 4, "mean": 2, "p90": 2.8}


def test_the_infinite_bucket_is_optional() -> None:
    """A declaration with the infinite bucket equals the one without it."""
    family = ConnectorFamily("h", "histogram", buckets=(1, math.inf))
    assert family == ConnectorFamily("h", "histogram", buckets=(1.0,))


def test_a_family_that_is_declared_twice() -> None:
    """A family that is declared twice is one family with the keys of both declarations."""
    first = ConnectorFamily("jobs", "counter", keys=("a",))
    second = ConnectorFamily("jobs", "counter", help="Jobs", keys=("b", "a"))
    (family,) = unite_families([("one", first), ("two", second)])
    assert (family.keys, family.help) == (("a", "b"), "jobs")


def test_a_family_that_is_declared_in_two_ways() -> None:
    """Two different declarations of a family are an error with both owners and declarations."""
    first = ConnectorFamily("jobs", "counter")
    second = ConnectorFamily("jobs", "counter", labels=("kind",))
    with pytest.raises(ConnectorConflictError) as caught:
        unite_families([("one", first), ("two", second)])
    assert caught.value.owners == ("one", "two")
    assert str(caught.value) == (
        "metric 'jobs' of one is a counter (labels [], by sum) and cannot be"
        " a counter (labels [kind], by sum), as two declares it"
    )
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_key_that_would_merge_in_two_ways() -> None:
    """A key whose numbers would merge in two ways is an error, since they are kept once."""
    first = ConnectorFamily("jobs", "counter", keys=("a",))
    second = ConnectorFamily("last", "gauge", keys=("a",))
    with pytest.raises(ConnectorDeclarationError, match="key 'a' merges by"):
        unite_families([("one", first), ("two", second)])


def test_families_of_a_connector() -> None:
    """The families of a connector are those that it gives, or those known of its class."""
    jobs = ConnectorFamily("jobs", "counter")
    assert find_families(FakeConnector(connector_families=(jobs,))) == (jobs,)
    assert find_families(FakeConnector(connector_families=())) == ()
    assert find_families(FakeConnector()) == ()
    assert find_families(type("Own", (), {"connector_families": [jobs]})) == (jobs,)
    assert (
        find_families(type("Mine", (NixlPullConnector,), {})())
        == CONNECTOR_FAMILIES["NixlPullConnector"]
    )
    assert find_families(type("NixlConnector", (), {})) == CONNECTOR_FAMILIES["NixlPullConnector"]


def test_the_families_of_a_name() -> None:
    """Connectors that share a name have the union of their declarations."""
    jobs, more = ConnectorFamily("jobs", "counter"), ConnectorFamily("more", "counter")
    connectors = [
        FakeConnector(connector_families=(jobs,)),
        OtherConnector(),
        FakeConnector(connector_families=(jobs, more)),
    ]
    assert collect_families(connectors, ["a", "b", "a"]) == {"a": (jobs, more), "b": ()}


def test_a_conflict_within_a_class() -> None:
    """In a conflict of two connectors of one name, their places tell them apart."""
    connectors = [
        FakeConnector(connector_families=(ConnectorFamily("jobs", kind),))
        for kind in ("counter", "gauge")
    ]
    with pytest.raises(ConnectorConflictError) as caught:
        collect_families(connectors, ["a", "a"])
    assert caught.value.owners == ("a[0]", "a[1]")


def test_known_families_are_in_the_table_of_vllm() -> None:
    """Each known family is in vLLM's table, with the labels of the engine before its own."""
    table = {family.name: family for family in VLLM_FAMILIES}
    for name, family in {**KNOWN, "info": offload_info(*OFFLOAD_SETTINGS)}.items():
        listed = table[family.name]
        assert (listed.type, listed.mode) == (family.type, family.mode), name
        assert (listed.labels, listed.buckets) == (
            ("model_name", "engine", *family.labels),
            family.buckets,
        )
        assert listed.condition


BYTES = [2.0**power for power in range(11, 34, 2)]
SIZES = [1e6, 5e6, 1e7, 2e7, 4e7, 6e7, 8e7, 1e8, 1.5e8, 2e8]
TRANSFER = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 5]
FILES = [0.001, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 5]
RESIDENCY = [
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60),
    *(120, 300, 600, 1200, 1800),
]
LOOKUP = [1e-5, 5e-5, 1e-4, 5e-4, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1]

HISTOGRAMS = {
    "vllm:nixl_xfer_time_seconds": TRANSFER,
    "vllm:nixl_post_time_seconds": [0.001, *TRANSFER],
    "vllm:nixl_bytes_transferred": BYTES,
    "vllm:nixl_num_descriptors": [
        *(10, 20, 30, 50, 75, 100, 200, 400, 1000, 2000, 4000, 10000, 20000, 50000)
    ],
    "vllm:mooncake_xfer_time_seconds": TRANSFER,
    "vllm:mooncake_bytes_transferred": BYTES,
    "vllm:mooncake_num_descriptors": [
        *(10, 20, 30, 50, 75, 100, 200, 400, 1000, 2000, 4000, 10000, 20000, 50000)
    ],
    "vllm:mooncake_store_operation_time_seconds": [
        *(0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 3, 4)
    ],
    "vllm:kv_offload_load_size": SIZES,
    "vllm:kv_offload_store_size": SIZES,
    "vllm:kv_offload_size": SIZES,
    "vllm:kv_offload_lookup_sync_delay_seconds": LOOKUP,
    "vllm:kv_offload_lookup_async_delay_seconds": [*LOOKUP[2:], 5, 10],
    "vllm:kv_offload_cpu_allocation_size": [*(1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144)],
    "vllm:kv_offload_tiering_lookup_sync_delay_seconds": LOOKUP,
    "vllm:kv_offload_tiering_lookup_async_delay_seconds": [*LOOKUP[2:], 5, 10],
    "vllm:kv_offload_tiering_promotion_latency_seconds": [
        *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
    ],
    "vllm:hf3fs_save_duration_seconds": FILES,
    "vllm:hf3fs_load_duration_seconds": FILES,
    "vllm:hisparse_host_block_lifetime_seconds": RESIDENCY,
    "vllm:hisparse_host_block_idle_before_evict_seconds": RESIDENCY,
    "vllm:hisparse_host_block_reuse_gap_seconds": RESIDENCY,
    "vllm:kvcr_duration_seconds": list(Histogram.DEFAULT_BUCKETS[:-1]),
    "vllm:lmcache_mp_lookup_duration_seconds": list(Histogram.DEFAULT_BUCKETS[:-1]),
}
"""The buckets of vLLM 0.33, written out independently of the table."""


def test_the_buckets_are_those_of_the_engine() -> None:
    """The known histograms have the buckets of vLLM 0.33, so that its dashboards fit."""
    found = {name: list(one.buckets) for name, one in KNOWN.items() if one.type == "histogram"}
    assert found == HISTOGRAMS


def test_how_many_families_are_known() -> None:
    """The known families are those of the connectors of vLLM 0.33, and of LMCache's."""
    kinds = [family.type for family in KNOWN.values()]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "counter": 4 + 3 + 4 + 8 + 11 + 2 + 2 + 2 + 3 + 4,
        "gauge": 3 + 5 + 1 + 3 + 2,
        "histogram": len(HISTOGRAMS),
    }
    assert {one.mode for one in KNOWN.values() if one.type == "gauge"} == {"mostrecent"}


def test_the_settings_of_offloading_are_labels() -> None:
    """The labels of the family of settings are the ones that the caller names."""
    family = offload_info("spec", "blocks")
    assert (family.name, family.labels) == ("vllm:kv_offload_config_info", ("spec", "blocks"))
