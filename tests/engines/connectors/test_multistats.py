"""The statistics of several connectors: kept apart by name, and merged under one name."""

from __future__ import annotations

import copy
import json
import pickle
import threading
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import pytest

from mpmetrics.engines import (
    CONNECTOR_FAMILIES,
    ConnectorConflictError,
    ConnectorFamily,
    ConnectorStats,
    ConnectorStatsError,
    MultiConnector,
    MultiConnectorStats,
)
from mpmetrics.engines.connectors.names import name_connectors
from mpmetrics.engines.observers import ERRORS
from tests.engines.connectors.fakes import (
    FakeConnector,
    ForeignStats,
    NixlPullConnector,
    OtherConnector,
    nixl,
    stats,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def drain(*connectors: Any) -> MultiConnectorStats | None:
    """Return the statistics that these connectors have."""
    return MultiConnectorStats.drain(connectors)


def make_connector(statistics: Any, kind: type[FakeConnector] = FakeConnector) -> FakeConnector:
    """Return a connector that has these *statistics*."""
    return kind(get_kv_connector_stats=statistics)


# -- Reading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [None, {}, {"data": {}}])
def test_statistics_of_no_connector(data: Any) -> None:
    """Without data there are empty statistics of no connector, which are truthy."""
    built = MultiConnectorStats.build(data)
    assert (len(built), built.is_empty(), bool(built)) == (0, True, True)


def test_numbers_become_statistics_of_their_connector() -> None:
    """Numbers of a known connector become statistics with its families."""
    built = MultiConnectorStats.build({"NixlPullConnector": nixl(1.5)})
    assert type(built["NixlPullConnector"]) is ConnectorStats
    assert built["NixlPullConnector"].families == CONNECTOR_FAMILIES["NixlPullConnector"]
    assert built["NixlPullConnector"].data == nixl(1.5)


def test_statistics_survive_being_sent() -> None:
    """The statistics of two connectors survive JSON and pickle, under either name of one."""
    sent = {"NixlConnector": nixl(1.5), "MooncakeConnector": {"transfer_duration": [2.0]}}
    built = MultiConnectorStats.build(sent)
    assert built.to_dict() == sent
    assert json.loads(json.dumps(built.to_dict())) == {
        "NixlPullConnector": sent["NixlConnector"],
        "MooncakeConnector": sent["MooncakeConnector"],
    }
    assert pickle.loads(pickle.dumps(built)).to_dict() == sent
    assert built.to_dict() != {**sent, "NixlConnector": nixl(2.5)}
    assert built.to_dict() != object()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_declarations_go_with_statistics_to_another_process(copied: Any) -> None:
    """Pickled statistics keep their declarations; known ones are sent by name, which is short."""
    families = {"X": (ConnectorFamily("last", "gauge"),), "Y": None}
    mine = MultiConnectorStats({"X": {"last": 1}, "NixlConnector": nixl(1)}, families)
    sent = copied(mine)
    sent.aggregate({"X": {"last": 3}, "Y": {"count": 1}, "NixlConnector": nixl(2)})
    assert sent.to_dict() == {
        "X": {"last": 3},
        "NixlConnector": mine["NixlConnector"].aggregate(nixl(2)).data,
    }
    assert sent["NixlConnector"].families == CONNECTOR_FAMILIES["NixlPullConnector"]
    sent.reset()
    assert mine["X"].data == {"last": 1}
    assert len(pickle.dumps(MultiConnectorStats({"OffloadingConnector": {"a": 1}}))) < 1000


def test_both_forms_on_the_wire() -> None:
    """Data may be wrapped in "data" for each connector, for all, for both, or not at all."""
    flat = {"NixlConnector": nixl(1.5), "X": {"count": 1}}
    wrapped = {name: {"data": numbers} for name, numbers in flat.items()}
    for sent in (flat, wrapped, {"data": flat}, {"data": wrapped}):
        assert MultiConnectorStats.build(sent).to_dict() == flat


def test_two_names_of_one_connector_are_one() -> None:
    """The numbers under two names of a connector are merged, and found by either name."""
    built = MultiConnectorStats.build({"NixlConnector": nixl(1), "NixlPullConnector": nixl(2)})
    assert list(built.data) == ["NixlPullConnector"]
    assert built["NixlConnector"] is built["NixlPullConnector"]
    assert "NixlConnector" in built
    assert built.to_dict()["NixlConnector"]["transfer_duration"] == [1, 2]
    assert built.reduce()["NixlConnector"]["Num successful transfers"] == 2
    assert "MooncakeConnector" not in built
    with pytest.raises(KeyError):
        built["MooncakeConnector"]


def test_unknown_connectors_are_kept_and_counted() -> None:
    """Statistics of unknown connectors are kept, merged by default rules, and counted."""
    built = MultiConnectorStats.build({"Unknown": {"count": 1}, "NixlConnector": nixl(1)})
    built.aggregate({"Unknown": {"count": 2}})
    assert built["Unknown"].data == {"count": 3}
    assert built.unknown == {"Unknown": 2}
    built.reset()
    assert not built.unknown


def test_objects_stay_what_they_are() -> None:
    """Objects of statistics are kept beside numbers; None is dropped, and others are refused."""
    mine, theirs = stats(count=1), ForeignStats(seen=[1.0])
    built = MultiConnectorStats.build(
        {"A": mine, "B": theirs, "NixlConnector": nixl(1), "C": None, "D": 7}
    )
    assert built["A"] is mine
    assert built["B"] is theirs
    assert type(built["NixlConnector"]) is ConnectorStats
    assert list(built.data) == ["A", "B", "NixlPullConnector"]
    assert built.refused == {"D": 1}


def test_dropped_connectors() -> None:
    """The numbers of a connector whose families are None are dropped."""
    built = MultiConnectorStats.build(
        {"ExampleConnector": {"count": 1}, "NixlConnector": nixl(1)}, {"ExampleConnector": None}
    )
    assert list(built.data) == ["NixlPullConnector"]
    assert not built.unknown


# -- Merging ---------------------------------------------------------------------------------------


def test_merging_the_same_connector() -> None:
    """Merging the same connector extends its lists."""
    mine = MultiConnectorStats.build({"NixlConnector": nixl(1)})
    assert mine.aggregate(MultiConnectorStats.build({"NixlConnector": nixl(2)})) is mine
    assert mine["NixlConnector"].data == {
        **nixl(),
        "transfer_duration": [1, 2],
        "post_duration": [0.1, 0.2],
        "bytes_transferred": [1024, 1024],
        "num_descriptors": [10, 10],
    }


def test_merging_another_connector() -> None:
    """Merging another connector keeps both."""
    mine = MultiConnectorStats.build({"NixlConnector": nixl(1)})
    mine.aggregate(MultiConnectorStats.build({"X": {"count": 1}}))
    assert mine.to_dict() == {"NixlConnector": nixl(1), "X": {"count": 1}}


def test_three_workers_with_two_connectors() -> None:
    """The statistics of three workers merge for each of their connectors."""
    mine = MultiConnectorStats()
    for transfers, count in ((2, 1), (3, 0), (0, 5)):
        mine.aggregate({"NixlConnector": nixl(*[1.0] * transfers), "Foo": {"count": count}})
    assert mine.reduce()["NixlConnector"]["Num successful transfers"] == 5
    assert mine.reduce()["Foo"] == {"count": 6}


def test_refused_counts_are_copied() -> None:
    """A copy of statistics keeps the counts of what was left out."""
    mine = MultiConnectorStats().aggregate({"X": {"bad": "1"}})
    assert mine["X"].refused == {"bad": 1}


def test_none_changes_nothing() -> None:
    """Aggregating None changes nothing."""
    mine = MultiConnectorStats.build({"X": {"count": 1}})
    assert mine.aggregate(None).to_dict() == {"X": {"count": 1}}


@pytest.mark.parametrize("other", [stats(count=1), 1, ["X"]], ids=["one", "number", "list"])
def test_aggregating_anything_else_is_an_error(other: Any) -> None:
    """Aggregating anything else is an error that changes nothing."""
    mine = MultiConnectorStats.build({"X": {"count": 1}})
    with pytest.raises(ConnectorStatsError):
        mine.aggregate(other)
    assert mine.to_dict() == {"X": {"count": 1}}


def test_merging_changes_no_other_object() -> None:
    """Aggregation and a reset change neither the given objects nor the other statistics."""
    objects: dict[str, Any] = {"A": ForeignStats(seen=[1.0]), "B": stats(seen=[1.0])}
    others: dict[str, Any] = {"A": ForeignStats(seen=[2.0]), "C": ForeignStats(seen=[3.0])}
    others["B"] = stats(seen=[2.0])
    before = copy.deepcopy((objects, others))
    mine, theirs = MultiConnectorStats.build(objects), MultiConnectorStats.build(others)
    mine.aggregate(theirs).aggregate(theirs)
    mine["C"].data["seen"].append(9.0)
    mine.reset()
    for given, unchanged in zip((objects, others), before, strict=True):
        assert {name: one.data for name, one in given.items()} == {
            name: one.data for name, one in unchanged.items()
        }
    assert mine.is_empty()
    assert not theirs.is_empty()


def test_two_classes_of_statistics_under_one_name() -> None:
    """Statistics of two classes under one name merge by their numbers."""

    class MoreStats(ForeignStats):
        """Statistics of a class that aggregates only its own instances."""

        def aggregate(self, other: ForeignStats) -> ForeignStats:
            """Refuse other classes."""
            if type(other) is not MoreStats:
                raise TypeError(other)
            return super().aggregate(other)

    for first, second in (
        (MoreStats(seen=[1.0]), ForeignStats(seen=[2.0])),
        (MoreStats(seen=[1.0]), stats(seen=[2.0])),
        (ForeignStats(seen=[1.0]), stats(seen=[2.0])),
        (stats(seen=[1.0]), ForeignStats(seen=[2.0])),
    ):
        mine = MultiConnectorStats.build({"X": first}).aggregate(
            MultiConnectorStats.build({"X": second})
        )
        assert mine["X"].data == {"seen": [1, 2]}


def test_statistics_that_cannot_be_copied() -> None:
    """Statistics that cannot be copied, as with a lock, are merged by their numbers."""
    theirs: Any = ForeignStats(seen=[1.0])
    theirs.lock = threading.Lock()
    mine = MultiConnectorStats.build({"X": theirs}).aggregate({"X": {"seen": [2.0]}})
    assert mine["X"].data == {"seen": [1, 2]}
    assert theirs.data == {"seen": [1]}


def test_statistics_of_a_nested_composite() -> None:
    """The statistics of a nested composite are those of its connectors."""
    sent = {"MultiConnector": {"X": {"count": 1}}, "X": {"count": 2}}
    assert MultiConnectorStats.build(sent).to_dict() == {"X": {"count": 3}}


def test_setting_the_statistics_of_a_connector() -> None:
    """Set statistics replace the earlier ones, and the given object does not change."""
    mine, theirs = MultiConnectorStats.build({"NixlPullConnector": nixl(1)}), stats(seen=[1])
    mine["NixlConnector"] = theirs
    assert mine["NixlPullConnector"] is theirs
    mine.reset()
    assert theirs.data == {"seen": [1]}


def test_emptiness() -> None:
    """Statistics are empty until one connector has a number."""
    mine = MultiConnectorStats.build({"A": stats(), "NixlConnector": nixl()})
    assert mine.is_empty()
    mine["NixlConnector"].data["transfer_duration"].append(1.0)
    assert not mine.is_empty()


def test_representation() -> None:
    """The representation of statistics has their data."""
    assert repr(MultiConnectorStats.build({"X": {"a": 1}})) == (
        "MultiConnectorStats({'X': ConnectorStats({'a': 1})})"
    )


# -- Draining --------------------------------------------------------------------------------------


def test_connectors_of_one_class_are_merged() -> None:
    """The statistics of connectors of one class are merged in their order."""
    mine = drain(
        make_connector(stats(seen=[1.0], count=1)),
        make_connector(stats(seen=[2.0], count=2)),
        make_connector(None),
        make_connector(stats(seen=[0.5])),
        make_connector(stats(seen=[9.0]), OtherConnector),
    )
    assert mine is not None
    assert mine.to_dict() == {
        "FakeConnector": {"seen": [1.0, 2.0, 0.5], "count": 3},
        "OtherConnector": {"seen": [9.0]},
    }


def test_draining_connectors_without_statistics() -> None:
    """Draining returns None if no connector has statistics, which differs from empty ones."""
    assert drain(make_connector(None), make_connector(None)) is None
    assert drain() is None
    assert drain(object()) is None
    empty = drain(make_connector(stats()))
    assert empty is not None
    assert empty.is_empty()


@pytest.mark.parametrize("kind", [stats, ForeignStats], ids=["ours", "foreign"])
def test_returned_statistics_stay_with_the_connector(kind: Any) -> None:
    """Returned statistics are copied, so that later counts of either side stay apart."""
    given = [kind(seen=[1.0]), kind(seen=[2.0]), kind(seen=[3.0])]
    mine = drain(*map(make_connector, given[:2]), make_connector(given[2], OtherConnector))
    assert mine is not None
    mine.aggregate({"FakeConnector": {"seen": [4.0]}, "OtherConnector": {"seen": [4.0]}})
    assert [each.data for each in given] == [{"seen": [1.0]}, {"seen": [2.0]}, {"seen": [3.0]}]
    given[2].data["seen"].append(5.0)
    assert mine["OtherConnector"].to_dict() == {"seen": [3.0, 4.0]}


def test_plain_numbers_of_a_connector() -> None:
    """A connector may return plain numbers, whose lists are not changed."""
    given = {"data": nixl(1)}
    mine = drain(*(make_connector(given, NixlPullConnector) for _ in range(2)))
    assert mine is not None
    assert mine["NixlConnector"].data["transfer_duration"] == [1, 1]
    assert given == {"data": nixl(1)}
    assert not mine.unknown


def test_a_connector_that_fails_costs_its_own_statistics() -> None:
    """A connector that raises is counted by name, and the others keep their statistics."""
    before = ERRORS.counts().get(("connector OtherConnector", "raised"), 0)
    mine = drain(make_connector(RuntimeError("no"), OtherConnector), make_connector(stats(count=1)))
    assert mine is not None
    assert mine.to_dict() == {"FakeConnector": {"count": 1}}
    assert ERRORS.counts()["connector OtherConnector", "raised"] == before + 1


def test_draining_asks_once() -> None:
    """Each drain asks a connector once."""
    connectors = [FakeConnector(get_kv_connector_stats=[None, stats(count=1), None])]
    assert [drain(*connectors) is None for _ in range(3)] == [True, False, True]


def test_names_tell_connectors_of_one_class_apart() -> None:
    """Given names keep the statistics of two connectors of one class apart."""
    mine = MultiConnectorStats.drain(
        [make_connector(stats(count=1)), make_connector(stats(count=2))], ["fast", "slow"]
    )
    assert mine is not None
    assert mine.to_dict() == {"fast": {"count": 1}, "slow": {"count": 2}}


def test_declarations_say_how_statistics_merge() -> None:
    """Statistics merge by the declarations of every connector of a class."""
    last, top = ConnectorFamily("last", "gauge"), ConnectorFamily("top", "gauge", merge="max")
    mine = drain(
        FakeConnector(connector_families=(last,), get_kv_connector_stats={"last": 1}),
        FakeConnector(connector_families=(top,), get_kv_connector_stats={"top": 3}),
        FakeConnector(get_kv_connector_stats={"last": 2, "top": 2}),
    )
    assert mine is not None
    assert mine.to_dict() == {"FakeConnector": {"last": 2, "top": 3}}


def test_conflicting_declarations() -> None:
    """Conflicting declarations of two connectors are an error that names both."""
    kinds = ("counter", "gauge")
    with pytest.raises(ConnectorConflictError, match=r"FakeConnector\[0\] is a counter"):
        drain(*(FakeConnector(connector_families=(ConnectorFamily("a", kind),)) for kind in kinds))


def test_names_of_connectors() -> None:
    """Names tell two classes apart, resolve aliases, and are the same for class and instance."""
    one, two, three = (type("Same", (), {"__module__": module}) for module in ("one", "two", "two"))
    alias = type("NixlConnector", (), {})
    assert name_connectors([one(), two(), one, three(), alias(), NixlPullConnector]) == [
        *("Same", "two.Same", "Same", "two.Same"),
        *("NixlPullConnector", "NixlPullConnector"),
    ]


@pytest.mark.parametrize(
    "mock", [partial(MagicMock, spec=FakeConnector), type("Mock", (MagicMock,), {}), MagicMock]
)
def test_mocks_are_of_one_class(mock: Callable[[], Any]) -> None:
    """Mocks have one name, although each mock has a class of its own."""
    mocks = [mock(), mock()]
    for number, each in enumerate(mocks):
        each.get_kv_connector_stats = lambda number=number: {"number": [number]}
    both = drain(*mocks)
    assert both is not None
    assert [each.to_dict() for each in both.data.values()] == [{"number": [0, 1]}]


def test_aliases_find_the_same_statistics() -> None:
    """An alias of a name finds, and sets, the same statistics."""
    some = MultiConnectorStats()
    some.data["NixlConnector"] = numbers = ConnectorStats({"a": 1})
    assert list(some) == ["NixlPullConnector"]
    assert some.data.get("NixlConnector") is some["NixlConnector"] is numbers
    assert some.data.get("other", 7) == 7
    assert not some.to_dict() != {"NixlConnector": {"a": 1}}  # noqa: SIM202 - what is tested
    assert some.to_dict() != {"NixlConnector": {"a": 2}}


def test_a_reset_limits_memory() -> None:
    """A reset limits the connectors and keys that are kept without numbers."""
    many, one = MultiConnectorStats(), ConnectorStats()
    for number in range(5):
        names = [f"{number} {each}" for each in range(400)]
        many.aggregate({name: {"a": 1} for name in names})
        one.aggregate({name: [1] for name in names})
        assert {len(many), len(one.data)} <= {min(400 * (number + 1), 1400)}
        many.reset()
        one.reset()
        assert many.is_empty()
        assert one.is_empty()


def test_refused_values_are_counted_once() -> None:
    """A value that is left out is counted once as an error, even in nested composites."""

    class Bad(FakeConnector):
        """A connector that sends values that are not numbers."""

    bad = Bad(get_kv_connector_stats=[{"a": "x", "b": 1}, "x", ConnectorStats({"a": "x"})])
    composite = MultiConnector([MultiConnector([bad])])
    for number in (1, 2, 3):
        composite.get_kv_connector_stats()
        assert ERRORS.counts()["connector Bad", "no number"] == number


def test_a_connector_that_counts_while_it_is_drained() -> None:
    """A key that another thread adds during a drain costs no other key."""
    counting = ConnectorStats()

    class Column(list[Any]):
        """A list whose connector counts something else while it is read."""

        def __iter__(self) -> Iterator[Any]:
            counting.data[f"new {len(counting.data)}"] = 1
            return super().__iter__()

    counting.data.update(a=Column([1]), b=2)
    mine = drain(FakeConnector(get_kv_connector_stats=counting))
    assert mine is not None
    assert mine.to_dict()["FakeConnector"].items() >= {"a": [1], "b": 2}.items()
    assert ConnectorStats().aggregate(counting).to_dict().items() >= {"a": [1], "b": 2}.items()
