"""The statistics of connectors between two looks at them: plain data, which can be merged.

Nothing here changes what somebody else has given, and nothing raises for numbers that are odd:
they are left out, and counted.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from mpmetrics.engines.connectors.declarations import CONNECTOR_FAMILIES
from mpmetrics.engines.connectors.errors import ConnectorStatsError
from mpmetrics.engines.connectors.families import UNDECLARED, merges_of, together
from mpmetrics.engines.connectors.identities import (
    ByIdentity,
    declarations,
    identities,
    identity,
)
from mpmetrics.engines.connectors.summaries import summarised
from mpmetrics.engines.connectors.values import (
    cells,
    copied,
    is_blank,
    merged,
    payload,
    read,
    shaped,
    written,
)
from mpmetrics.engines.observing import ERRORS

if TYPE_CHECKING:
    from mpmetrics.engines.connectors.families import ConnectorFamily
    from mpmetrics.engines.connectors.values import Number, Value

    Families = Iterable[ConnectorFamily]

COMPOSITE: Final = "MultiConnector"
"""The identity of a composite, the statistics of which are those of its connectors."""

_SEVERAL: Final = "statistics of several connectors"

_NO_NUMBER: Final = (TypeError, ValueError, OverflowError, RecursionError)
"""What is raised for a value that is none."""


class ConnectorStats:
    """The statistics of one connector: a number, a list, or one of both for each labels, by key.

    *families* say how the numbers under their keys merge. Without them numbers are summed and
    lists extended. What is no number is left out; `refused` counts it by key.
    """

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        families: Families = (),
    ) -> None:
        """Begin with a copy of *data*, flat or under "data"; with empty columns if there is none.

        Raises `ConnectorDeclarationError` when the families do not agree how a key merges.
        """
        self.families = tuple(families)
        self.data: dict[str, Value] = {}
        self.refused: Counter[str] = Counter()
        self._merges = merges_of(self.families)
        for key, value in payload(data or {}).items():
            self._take(key, value)
        if not self.data:
            self.reset()

    def aggregate(self, other: object) -> ConnectorStats:
        """Add *other* statistics, of whatever class, to these, which are returned.

        Nothing changes if there is nothing in them, or if they are None. Raises
        `ConnectorStatsError` if they are no statistics.
        """
        if other is None:
            return self
        theirs = self._as_mine(other)
        self.refused.update(theirs.refused)
        for key, value in theirs.data.items():
            if not is_blank(value):
                self._merge(key, value)
        return self

    def reduce(self) -> dict[str, Number]:
        """Return figures for a person, all of them plain numbers of Python."""
        return summarised(self.data, self.families)

    def reset(self) -> None:
        """Forget all numbers; what is sent in lists has an empty one from now on."""
        columns = [key for family in self.families if family.listed for key in family.keys]
        columns.extend(key for key, value in self.data.items() if isinstance(value, list))
        self.data = {key: [] for key in columns}
        self.refused = Counter()

    def is_empty(self) -> bool:
        """Tell whether there is no number at all. One that is 0 is one."""
        return all(map(is_blank, self.data.values()))

    def to_dict(self) -> dict[str, Any]:
        """Return the data as JSON and msgpack have them; labels become one text.

        What is made of it has the same data again.
        """
        return {key: written(value) for key, value in self.data.items()}

    def __repr__(self) -> str:
        """Return what is in it."""
        return f"{type(self).__name__}({self.data!r})"

    def _take(self, key: object, value: object) -> None:
        """Take what was sent under one key, if that can be."""
        name = str(key)
        try:
            self.data[name] = read(value, self._merges.get(name, UNDECLARED))
        except _NO_NUMBER:
            self.refused[name] += 1

    def _merge(self, key: str, value: Value) -> None:
        """Add a *value* to what there is under one key."""
        merge = self._merges.get(key, UNDECLARED)
        mine = cells(self.data[key]) if key in self.data else {}
        for labels, cell in cells(value).items():
            mine[labels] = merged(mine.get(labels), cell, merge)
        self.data[key] = shaped(mine)

    def _as_mine(self, other: object) -> ConnectorStats:
        """Return *other* statistics in the form of these, whose declarations grow if need be."""
        if not isinstance(other, ConnectorStats):
            return ConnectorStats(_data_of(other), self.families)
        if other.families == self.families:
            return other
        self.families = together(self.families, other.families)
        self._merges = merges_of(self.families)
        mine = ConnectorStats(other.data, self.families)
        mine.refused.update(other.refused)
        return mine


class MultiConnectorStats:
    """The statistics of several connectors, by who they are.

    There may be objects of others among them. Those are kept, but never changed: what is to
    change is copied first. *families* say what connectors declare, None for one whose statistics
    do not matter. What those here do not know is looked up among what is known of classes; what
    nobody knows is kept, too, and counted in `unknown`.
    """

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        families: Mapping[str, Families | None] | None = None,
    ) -> None:
        """Begin with *data*, flat or under "data", in which objects and numbers may be mixed."""
        self.data: ByIdentity[Any] = ByIdentity()
        self.unknown: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._declared: dict[str, Families | None] = {
            **CONNECTOR_FAMILIES,
            **{identity(name): each for name, each in (families or {}).items()},
        }
        self._own: set[str] = set()
        for name, value in payload(data or {}).items():
            self._read(str(name), value)

    @classmethod
    def build(
        cls,
        data: Mapping[str, Any] | None = None,
        families: Mapping[str, Families | None] | None = None,
    ) -> MultiConnectorStats:
        """Return statistics that were sent: *data* as they are in `to_dict`."""
        return cls(data, families)

    @classmethod
    def drain(
        cls,
        connectors: Iterable[Any],
        names: Iterable[str] | None = None,
        families: Mapping[str, Families | None] | None = None,
    ) -> MultiConnectorStats | None:
        """Return what the *connectors* have now, in order; None if none of them has anything.

        Each is asked once, and so has nothing afterwards. If one fails, that is counted, and it
        has nothing either. *names* say who they are, *families* what they declare.
        """
        asked = list(connectors)
        known = list(identities(asked) if names is None else names)
        drained = cls(families=declarations(asked, known) if families is None else families)
        named = zip(known, asked, strict=True)
        answers = [drained._drain(name, connector) for name, connector in named]
        return drained if any(answers) else None

    def aggregate(self, other: object) -> MultiConnectorStats:
        """Add *other* statistics of several connectors to these, which are returned.

        Nothing changes if they are None. Raises `ConnectorStatsError` if they are something else.
        """
        if other is None:
            return self
        if isinstance(other, ConnectorStats):
            raise ConnectorStatsError(other, _SEVERAL)
        theirs = other if isinstance(other, MultiConnectorStats) else self._built(_data_of(other))
        self.unknown.update(theirs.unknown)
        self.refused.update(theirs.refused)
        for name, stats in list(theirs.data.items()):
            # A reference would be enough until the others go on counting.
            self._add(name, stats if name in self.data else _copied(stats), is_own=True)
        return self

    def reduce(self) -> dict[str, Any]:
        """Return the figures of each connector, for a person."""
        return ByIdentity((name, stats.reduce()) for name, stats in self.data.items())

    def reset(self) -> None:
        """Have each connector forget its numbers."""
        for name in self.data:
            self._owned(name).reset()
        self.unknown, self.refused = Counter(), Counter()

    def is_empty(self) -> bool:
        """Tell whether no connector has any number."""
        return all(stats.is_empty() for stats in self.data.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the data of each connector, flat, as they are sent."""
        return {name: stats.to_dict() for name, stats in self.data.items()}

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - whoever's statistics they are
        """Return the statistics of one connector."""
        return self.data[name]

    def __setitem__(self, name: str, stats: object) -> None:
        """Replace the statistics of one connector."""
        self.data[identity(name)] = stats
        self._own.discard(identity(name))

    def __contains__(self, name: object) -> bool:
        """Tell whether there are statistics of a connector."""
        return name in self.data

    def __len__(self) -> int:
        """Return how many connectors there are statistics of."""
        return len(self.data)

    def __bool__(self) -> bool:
        """Tell that there are statistics, if of no connector: None is for when there are none."""
        return True

    def __repr__(self) -> str:
        """Return what is in it."""
        return f"{type(self).__name__}({dict(self.data)!r})"

    def _drain(self, name: str, connector: Any) -> bool:  # noqa: ANN401 - any connector
        """Add what one connector has; tell whether that is anything."""
        ask = getattr(connector, "get_kv_connector_stats", None)
        try:
            stats = ask() if callable(ask) else None
            if isinstance(stats, MultiConnectorStats):
                self.aggregate(stats)
            elif stats is not None:
                self._read(name, stats)
                if type(stats) is ConnectorStats:
                    self._owned(identity(name))  # the connector may go on with what it has given
        except Exception as error:  # noqa: BLE001 - statistics must not cost the engine
            ERRORS.count(f"connector {name}", "raised", error)
            return False
        return stats is not None

    def _read(self, name: str, value: Any) -> None:  # noqa: ANN401 - it is to be seen what it is
        """Add what one connector has sent; objects stay what they are."""
        name = identity(name)
        is_known = name in self._declared
        if value is None or (is_known and self._declared[name] is None):
            return
        if not isinstance(value, Mapping):
            self._take(name, value)
        elif name == COMPOSITE and not is_known:
            self.aggregate(self._built(value))
        else:
            self.unknown.update([] if is_known else [name])
            self._add(name, ConnectorStats(value, self._declared.get(name) or ()), is_own=True)

    def _take(self, name: str, stats: object) -> None:
        """Add an object, if it is one of statistics."""
        if callable(getattr(stats, "aggregate", None)):
            self._add(name, stats)
        else:
            self.refused[name] += 1

    def _built(self, data: Mapping[str, Any]) -> MultiConnectorStats:
        """Return others, made of *data*, for the same connectors."""
        return MultiConnectorStats(data, self._declared)

    def _add(self, name: str, stats: object, *, is_own: bool = False) -> None:
        """Add the statistics of one connector behind those that there are."""
        if name not in self.data:
            self.data[name] = stats
            self._own.update([name] if is_own else [])
            return
        mine = self._owned(name)
        if not isinstance(mine, ConnectorStats) and type(mine) is not type(stats):
            # Two classes of statistics under one name: what they share is the numbers.
            mine = ConnectorStats(_data_of(mine), self._declared.get(name) or ())
        self.data[name] = mine.aggregate(stats)

    def _owned(self, name: str) -> Any:  # noqa: ANN401 - whoever's statistics they are
        """Return statistics that may be changed, which are copied if they are somebody else's."""
        if name not in self._own:
            self.data[name] = _copied(self.data[name])
            self._own.add(name)
        return self.data[name]


def _copied(stats: Any) -> Any:  # noqa: ANN401 - whoever's statistics they are
    """Return statistics with lists of their own."""
    if type(stats) is not ConnectorStats:
        try:
            return copy.deepcopy(stats)
        except TypeError:  # it has a lock, say
            return ConnectorStats(_data_of(stats))
    new = ConnectorStats(families=stats.families)
    new.data = {key: copied(value) for key, value in stats.data.items()}
    new.refused.update(stats.refused)
    return new


def _data_of(stats: Any) -> Mapping[str, Any]:  # noqa: ANN401 - it is to be seen what it is
    """Return the data of statistics, whose ever. Raises `ConnectorStatsError`."""
    to_dict = getattr(stats, "to_dict", None)
    data = to_dict() if callable(to_dict) else stats
    if not isinstance(data, Mapping):
        raise ConnectorStatsError(stats)
    return data
