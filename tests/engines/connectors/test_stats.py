"""The statistics of one connector: reading, merging, and figures for the log."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from mpmetrics.engines import (
    CONNECTOR_FAMILIES,
    ConnectorDeclarationError,
    ConnectorFamily,
    ConnectorStats,
    ConnectorStatsError,
)
from tests.engines.connectors.fakes import ForeignStats, nixl, stats

NIXL = CONNECTOR_FAMILIES["NixlPullConnector"]

FAMILIES = (
    ConnectorFamily("count", "counter"),
    ConnectorFamily("last", "gauge"),
    ConnectorFamily("top", "gauge", merge="max"),
    ConnectorFamily("all", "gauge", merge="sum"),
    ConnectorFamily("seen", "histogram", buckets=(1, 10)),
    ConnectorFamily("filled", "histogram", buckets=(1, 10), merge="bucketed"),
)


@pytest.mark.parametrize(
    ("key", "first", "second", "merged"),
    [
        ("count", 1, 2, 3),
        ("count", [1], [2, 3], [1, 2, 3]),
        ("count", 1, [2], [1, 2]),
        ("last", 2, 1, 1),
        ("top", 2, 1, 2),
        ("top", float("nan"), 1, 1),
        ("top", 1, float("nan"), 1),
        ("all", 2, 1, 3),
        ("seen", [1.5], [0.5, 20], [1.5, 0.5, 20]),
        ("seen", 1.5, 2.5, [1.5, 2.5]),
        ("filled", [1, 0, 2, 30.5], [0, 1, 1, 20], [1, 1, 3, 50.5]),
        ("unknown", 1, 2, 3),
        ("unknown", [1], [2], [1, 2]),
    ],
)
@pytest.mark.parametrize("labels", [(), ("a",), ("a", "b")], ids=["bare", "one", "two"])
def test_how_numbers_merge(
    key: str, first: Any, second: Any, merged: Any, labels: tuple[str, ...]
) -> None:
    """Numbers merge as declared; without a family they are summed, and lists extended."""
    one, two = ({key: {labels: value}} for value in (first, second))
    mine = ConnectorStats(one, FAMILIES)
    assert mine.aggregate(ConnectorStats(two, FAMILIES)) is mine
    assert mine.data == {key: {labels: merged} if labels else merged}


def test_labels_are_kept_apart() -> None:
    """Numbers with different labels stay apart."""
    mine = stats(count={("a",): 1, ("b",): 2})
    mine.aggregate(stats(count={("b",): 3, ("c",): 4}))
    assert mine.data == {"count": {("a",): 1, ("b",): 5, ("c",): 4}}


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param({"count": 1, "seen": [2]}, id="flat"),
        pytest.param({"data": {"count": 1, "seen": [2]}}, id="data"),
        pytest.param(
            {"data": {"count": {(): 1}, "seen": {(): [2]}}, "types": {"count": "counter"}},
            id="types",
        ),
        pytest.param(
            {"data": {"count": 1, "seen": [2]}, "types": {}, "info": None},
            id="info",
        ),
    ],
)
def test_all_forms_on_the_wire(wire: dict[str, Any]) -> None:
    """Flat data, wrapped data and data with bare labels mean the same."""
    assert ConnectorStats(wire).data == {"count": 1, "seen": [2]}


def test_statistics_survive_being_sent() -> None:
    """Statistics survive JSON and pickle, and share no list with the data that is sent."""
    mine = ConnectorStats({"count": {("a", "b"): 1, ("[",): 2}, "seen": [1.5], "last": 3}, FAMILIES)
    for sent in (mine.to_dict(), json.loads(json.dumps(mine.to_dict()))):
        assert ConnectorStats(sent, FAMILIES).data == mine.data
    assert pickle.loads(pickle.dumps(mine)).data == mine.data
    labelled = ConnectorStats({"seen": {("a",): [1.5]}})
    for each in (mine, labelled):
        before = copy.deepcopy(each.data)
        sent = each.to_dict()["seen"]
        (sent if isinstance(sent, list) else next(iter(sent.values()))).append(2)
        assert each.data == before


class Odd:
    """A number of another library."""

    def item(self) -> int:
        """Return the number as Python's own."""
        return 7


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("1", id="text"),
        pytest.param(b"1", id="bytes"),
        pytest.param(None, id="none"),
        pytest.param({"a": {"b": 1}}, id="labels-of-labels"),
        pytest.param(10**400, id="too-large"),
        pytest.param([1, "2"], id="text-in-a-list"),
        pytest.param([[1]], id="list-in-a-list"),
        pytest.param(object(), id="object"),
    ],
)
def test_values_that_are_not_numbers(value: Any) -> None:
    """A value that is not a number is left out and counted by its key."""
    mine = ConnectorStats({"bad": value, "count": Odd()})
    assert (mine.data, mine.refused) == ({"count": 7}, {"bad": 1})
    assert type(mine.data["count"]) is int


@pytest.mark.parametrize("given", [{"filled": [1, 2]}, {"last": []}])
def test_lists_of_the_wrong_length_are_left_out(given: dict[str, Any]) -> None:
    """Lists without one number per bucket, and gauges without a number, are left out."""
    assert sum(ConnectorStats(given, FAMILIES).refused.values()) == 1


def test_refused_counts_are_merged() -> None:
    """Aggregation adds the counts of what was left out, and a reset clears them."""
    mine = stats(bad="1")
    mine.aggregate(stats(bad="1", worse="2")).aggregate({"bad": "3"})
    assert mine.refused == {"bad": 3, "worse": 1}
    other = ConnectorStats(families=FAMILIES).aggregate(mine)
    assert other.refused == mine.refused
    mine.reset()
    assert not mine.refused


def test_adding_nothing_changes_nothing() -> None:
    """Aggregating None or empty statistics changes nothing."""
    mine = stats(count=1, seen=[2])
    blank = ConnectorStats(nixl(), NIXL)
    others: list[Any] = [None, {}, {"data": {}}, stats(), stats(seen=[]), blank]
    for other in others:
        assert mine.aggregate(other) is mine
    assert mine.data == {"count": 1, "seen": [2]}


@pytest.mark.parametrize("other", [1, "text", [1], object()], ids=["1", "text", "list", "object"])
def test_aggregating_anything_else_is_an_error(other: Any) -> None:
    """Aggregating anything but statistics is a `TypeError` that changes nothing."""
    mine = stats(count=1)
    with pytest.raises(ConnectorStatsError, match="statistics expected, not ") as caught:
        mine.aggregate(other)
    assert isinstance(caught.value, TypeError)
    assert mine.data == {"count": 1}


def test_statistics_of_an_engine_are_read() -> None:
    """Statistics of an engine's class are read, not changed, and their lists not shared."""
    theirs = ForeignStats(seen=[1.0])
    mine = stats(seen=[0.5]).aggregate(theirs)
    mine.aggregate(theirs)
    assert mine.data == {"seen": [0.5, 1, 1]}
    assert theirs.data == {"seen": [1.0]}


def test_merging_changes_the_first_only() -> None:
    """Aggregation changes neither the other statistics nor the data of either side."""
    made_of = {"seen": [1.0], "count": {("a",): [1.0]}}, {"seen": [2.0], "count": {("b",): [2.0]}}
    before = copy.deepcopy(made_of)
    one, two = map(ConnectorStats, made_of)
    one.aggregate(two).aggregate(two)
    seen: Any = one.data["seen"]
    seen.append(9)
    assert made_of == before
    assert two.data == before[1]


def test_adding_to_itself_doubles() -> None:
    """Statistics that are aggregated with themselves double."""
    mine = stats(seen=[1, 2], count={("a",): 1})
    assert mine.aggregate(mine).data == {"seen": [1, 2, 1, 2], "count": {("a",): 2}}


def test_declarations_are_learnt_from_others() -> None:
    """Aggregation adds the declarations of the other statistics."""
    mine = ConnectorStats({"count": 1}, FAMILIES[:1])
    mine.aggregate(ConnectorStats({"last": 5}, FAMILIES)).aggregate({"last": 3, "count": 1})
    assert mine.data == {"count": 2, "last": 3}


def test_conflicting_declarations() -> None:
    """Two families that merge one key differently are an error."""
    wrong = [ConnectorFamily(kind, kind, keys=("k",)) for kind in ("gauge", "counter")]
    with pytest.raises(ConnectorDeclarationError):
        ConnectorStats({}, wrong)


def test_listed_keys_have_empty_lists() -> None:
    """Keys of listed families have empty lists from the start and after a reset."""
    mine = ConnectorStats(families=NIXL)
    assert mine.data.keys() == nixl().keys()
    assert mine.is_empty()
    durations: Any = mine.data["transfer_duration"]
    durations.append(1.0)
    assert not mine.is_empty()
    mine.reset()
    assert mine.is_empty()
    assert mine.data == nixl()
    assert not stats(count=0).is_empty()


def test_buckets_go_on_after_a_reset() -> None:
    """After a reset buckets are an empty list, which merges with any buckets."""
    mine = ConnectorStats({"filled": [1, 0, 0, 0.5]}, FAMILIES)
    mine.reset()
    assert (mine.to_dict(), mine.is_empty()) == ({"filled": []}, True)
    assert mine.reduce() == {"filled_count": 0, "filled_sum": 0}
    mine.aggregate({"filled": [0, 1, 0, 2]}).aggregate(ConnectorStats({"filled": []}, FAMILIES))
    assert (mine.data["filled"], mine.refused) == ([0, 1, 0, 2], {})


def test_the_figures_of_nixl() -> None:
    """The figures of NIXL cover the transfers and failures of all workers."""
    mine = ConnectorStats(families=NIXL)
    for durations in ([1, 1], [1], [2, 2, 2]):
        mine.aggregate(nixl(*durations, num_descriptors=[float(len(durations)) / 2]))
    mine.aggregate(
        nixl(
            num_failed_transfers=[1.0],
            num_failed_handshakes=[1.0],
            num_failed_notifications=[1.0],
            num_kv_expired_reqs=[1.0],
            num_notifications_after_expiry=[1.0],
        )
    )
    assert mine.reduce() == {
        "Num successful transfers": 6,
        "Avg xfer time (ms)": 1500.0,
        "P90 xfer time (ms)": 2000.0,
        "Avg post time (ms)": 150.0,
        "P90 post time (ms)": 200.0,
        "Avg MB per transfer": 0.001,
        "Throughput (MB/s)": 0.001,
        "Avg number of descriptors": 1.0,
        "Num failed transfers": 3,
        "Num KV expired reqs": 1,
        "Num notifs after expiry": 1,
    }
    assert {type(figure) for figure in mine.reduce().values()} <= {int, float}


def test_figures_of_nothing_are_zero() -> None:
    """The figures of a connector without transfers are 0."""
    assert set(ConnectorStats(nixl(), NIXL).reduce().values()) == {0}


def test_the_90th_percentile_is_interpolated() -> None:
    """The 90th percentile is interpolated between two numbers."""
    mine = ConnectorStats(nixl(*range(1, 5)), NIXL)
    assert mine.reduce()["P90 xfer time (ms)"] == 3700


def test_default_figures() -> None:
    """Keys without summaries have their number, or count and sum of their list, in order."""
    data = {"z": {("a",): 2}, "seen": [1, 2], "filled": [1, 2, 0, 9.5], "b": 3}
    figures = ConnectorStats(data, FAMILIES).reduce()
    assert list(figures.items()) == [
        ("z:('a',)", 2),
        ("seen_count", 2),
        ("seen_sum", 3),
        ("filled_count", 3),
        ("filled_sum", 9.5),
        ("b", 3),
    ]


def test_representation() -> None:
    """The representation of statistics has their data."""
    assert repr(stats(count=1)) == "ConnectorStats({'count': 1})"
