"""Properties of merging: it is associative, keeps the order, and changes no input.

The expected results are computed from all inputs in one step.
"""

from __future__ import annotations

import copy
from functools import reduce
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mpmetrics.engines import ConnectorFamily, ConnectorStats, MultiConnectorStats
from tests.engines.connectors.fakes import FakeConnector, OtherConnector

FAMILIES = (
    ConnectorFamily("count", "counter", labels=("kind",)),
    ConnectorFamily("failed", "counter", listed=True),
    ConnectorFamily("last", "gauge"),
    ConnectorFamily("top", "gauge", merge="max"),
    ConnectorFamily("all", "gauge", merge="sum"),
    ConnectorFamily("seen", "histogram", buckets=(1, 10)),
    ConnectorFamily("filled", "histogram", buckets=(1, 10), merge="bucketed"),
)
DECLARED = dict.fromkeys(("A", "B", "FakeConnector", "OtherConnector"), FAMILIES)

# Integers, because sums of floats depend on the order.
whole = st.integers(-1000, 1000)
lists = st.lists(whole, max_size=4)
payloads = st.fixed_dictionaries(
    {},
    optional={
        "count": st.dictionaries(st.sampled_from([("a",), ("b",)]), whole, min_size=1),
        "failed": lists,
        "last": whole,
        "top": whole,
        "all": whole,
        "seen": lists,
        "filled": st.lists(whole, min_size=4, max_size=4),
        "unknown": whole,
        "unknowns": lists,
    },
)
composites = st.dictionaries(st.sampled_from(["A", "B", "C", "NixlConnector"]), payloads)


def one(data: dict[str, Any]) -> ConnectorStats:
    """Return statistics of one connector."""
    return ConnectorStats(data, FAMILIES)


def several(data: dict[str, Any]) -> MultiConnectorStats:
    """Return statistics of several connectors."""
    return MultiConnectorStats(data, DECLARED)


def without_blanks(statistics: Any) -> Any:
    """Return the numbers of *statistics* without empty lists."""
    return {
        key: without_blanks(value) if isinstance(value, dict) else value
        for key, value in (
            statistics if isinstance(statistics, dict) else statistics.to_dict()
        ).items()
        if value not in ([], {})
    }


@given(first=payloads, second=payloads, third=payloads)
def test_one_connector_is_associative(first: Any, second: Any, third: Any) -> None:
    """Merging the statistics of one connector is associative."""
    left = one(first).aggregate(one(second)).aggregate(one(third))
    right = one(first).aggregate(one(second).aggregate(one(third)))
    assert without_blanks(left) == without_blanks(right)


@given(first=composites, second=composites, third=composites)
def test_several_connectors_are_associative(first: Any, second: Any, third: Any) -> None:
    """Merging the statistics of several connectors is associative, unknown ones included."""
    left = several(first).aggregate(several(second)).aggregate(several(third))
    right = several(first).aggregate(several(second).aggregate(several(third)))
    assert without_blanks(left) == without_blanks(right)
    assert left.unknown == right.unknown


@given(parts=st.lists(payloads, max_size=5))
def test_merging_is_the_same_as_one_step(parts: list[dict[str, Any]]) -> None:
    """Merging in order extends lists, sums counters, and keeps the last or largest of gauges."""
    merged = reduce(ConnectorStats.aggregate, parts, ConnectorStats(families=FAMILIES))

    def given_under(key: str) -> list[Any]:
        return [part[key] for part in parts if key in part]

    expected: dict[str, Any] = {
        key: [number for numbers in given_under(key) for number in numbers]
        for key in ("failed", "seen", "unknowns")
    }
    for key in ("all", "unknown"):
        expected.update({key: sum(given_under(key))} if given_under(key) else {})
    expected.update({"last": given_under("last")[-1]} if given_under("last") else {})
    expected.update({"top": max(given_under("top"))} if given_under("top") else {})
    if given_under("filled"):
        expected["filled"] = [sum(column) for column in zip(*given_under("filled"), strict=True)]
    counts: dict[tuple[str, ...], int] = {}
    for part in given_under("count"):
        for labels, number in part.items():
            counts[labels] = counts.get(labels, 0) + number
    expected["count"] = counts
    found = {key: value for key, value in merged.data.items() if value not in ([], {})}
    assert found == {key: value for key, value in expected.items() if value not in ([], {})}


@given(first=composites, second=composites)
def test_merging_leaves_its_inputs_alone(first: Any, second: Any) -> None:
    """Merging changes neither the data that it was given nor the other statistics."""
    before = copy.deepcopy((first, second))
    mine, theirs = several(first), several(second)
    there = theirs.to_dict()
    mine.aggregate(theirs).aggregate(theirs)
    mine.aggregate(second)
    mine.reset()
    assert (first, second) == before
    assert theirs.to_dict() == there


@given(parts=st.lists(st.tuples(st.booleans(), st.none() | payloads), max_size=5))
def test_draining_merges_by_class(
    parts: list[tuple[bool, dict[str, Any] | None]],
) -> None:
    """Draining merges by class in order, and leaves the returned statistics unchanged."""
    connectors, returned, expected = [], [], MultiConnectorStats(families=DECLARED)
    for is_other, payload in parts:
        kind = OtherConnector if is_other else FakeConnector
        statistics = None if payload is None else one(payload)
        connectors.append(kind(get_kv_connector_stats=statistics))
        if payload is not None and statistics is not None:
            returned.append((statistics, copy.deepcopy(statistics.data)))
            expected.aggregate({kind.__name__: payload})
    drained = MultiConnectorStats.drain(connectors, families=DECLARED)
    assert (drained is None) == (not returned)
    if drained is not None:
        assert without_blanks(drained) == without_blanks(expected)
        drained.reset()
    for statistics, data in returned:
        assert statistics.data == data


@given(data=composites)
def test_statistics_survive_being_sent(data: Any) -> None:
    """Statistics that were sent and read back are the same, and merge to the same."""
    sent = several(data).to_dict()
    assert several(sent).to_dict() == sent
    assert without_blanks(several(sent).aggregate(sent)) == without_blanks(
        several(data).aggregate(data)
    )
