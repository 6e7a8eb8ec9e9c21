"""The names of metric types, and which family has which name."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, Summary

from mpmetrics.errors import Problem
from mpmetrics.exposition import METRIC_TYPES, NameClaims, exposed_name, registered_names
from mpmetrics.exposition.names import exposed_names

EXPOSED = {
    "counter": {"n", "n_total"},
    "gauge": {"n"},
    "summary": {"n", "n_sum", "n_count"},
    "histogram": {"n", "n_bucket", "n_sum", "n_count"},
    "gaugehistogram": {"n", "n_bucket", "n_gsum", "n_gcount"},
    "info": {"n", "n_info"},
    "stateset": {"n"},
    "unknown": {"n"},
    "something else": {"n"},
}


@pytest.mark.parametrize("kind", EXPOSED)
def test_a_family_exposes_the_names_of_its_type(kind: str) -> None:
    """A family has its own name and those of its samples in either format."""
    assert exposed_names("n", kind) == EXPOSED[kind]


def test_every_type_is_listed() -> None:
    """The table has the types that the test above has."""
    assert {*METRIC_TYPES, "something else"} == set(EXPOSED)


@pytest.mark.parametrize(
    ("kind", "text", "openmetrics"),
    [("counter", "n_total", "n"), ("info", "n_info", "n"), ("histogram", "n", "n")],
)
def test_a_header_has_the_suffix_of_its_type_in_text(
    kind: str, text: str, openmetrics: str
) -> None:
    """In text, counters and infos have their suffix in HELP and TYPE; in OpenMetrics none has."""
    assert exposed_name("n", kind) == text
    assert exposed_name("n", kind, openmetrics=True) == openmetrics


@pytest.mark.parametrize(
    "metric",
    [
        Counter("n", "", registry=None),
        Gauge("n", "", registry=None),
        Summary("n", "", registry=None),
        Histogram("n", "", registry=None),
        Info("n", "", registry=None),
        Enum("n", "", states=["a"], registry=None),
    ],
    ids=lambda metric: metric._type,
)
def test_registered_names_are_those_of_prometheus_client(metric: Counter) -> None:
    """The reserved names of a type are those that prometheus_client's registry reserves."""
    registry = CollectorRegistry()
    registry.register(metric)
    names = registered_names("n", metric._type)
    assert sorted(names) == sorted(registry._names_to_collectors)


def test_a_name_belongs_to_the_family_that_claims_it_first() -> None:
    """A family that would expose a name of another one claims none of its names."""
    claims = NameClaims()
    assert claims.claim("h", "histogram", "first") is None
    assert claims.claim("h_sum", "summary", "second") == Problem(
        "second",
        "name_clash",
        "families 'h_sum' and 'h' both expose 'h_sum'; 'h_sum' is left out",
    )
    assert claims.claim("h_sum_count", "gauge", "third") is None


def test_samples_are_claimed_with_their_family() -> None:
    """A family claims the names of its samples, too, and clashes by any of them."""
    claims = NameClaims()
    assert claims.claim("c", "counter", "first", ["c_total", "c_created"]) is None
    clash = claims.claim("x", "gauge", "second", ["z", "c_created", "c"])
    assert clash is not None
    assert clash.detail == "families 'x' and 'c' both expose 'c'; 'x' is left out"
