"""The statistics of several connectors for one interval, by the name of the connector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from mpmetrics.engines.connectors.errors import ConnectorStatsError
from mpmetrics.engines.connectors.known_families import (
    CONNECTOR_FAMILIES,
    abbreviate_families,
    expand_families,
)
from mpmetrics.engines.connectors.lookup import collect_families
from mpmetrics.engines.connectors.names import AliasedDict, name_connectors, resolve_alias
from mpmetrics.engines.connectors.numbers import unwrap_payload
from mpmetrics.engines.connectors.rejections import MOST_KEYS, NO_NUMBER
from mpmetrics.engines.connectors.stats import ConnectorStats, copy_stats, get_data
from mpmetrics.engines.observers import ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mpmetrics.engines.connectors.families import ConnectorFamily

    Families = tuple[ConnectorFamily, ...]

COMPOSITE: Final = "MultiConnector"
"""The name of a composite: its statistics are those of the connectors within it."""

_SEVERAL: Final = "statistics of several connectors"


class MultiConnectorStats:
    """The statistics of several connectors, by the name of the connector.

    They may contain objects of other classes. Such an object is kept, and copied before it
    changes. *families* are the declarations by connector; None drops the statistics of a connector.
    For a connector that is missing there, the families that are known of its class apply. The
    statistics of an unknown connector are kept, too, and counted in `unknown`.
    """

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        families: Mapping[str, Iterable[ConnectorFamily] | None] | None = None,
    ) -> None:
        """Read *data*, flat or under "data": an object or numbers for each connector."""
        self.data: AliasedDict[Any] = AliasedDict()
        self.unknown: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._declared: dict[str, Families | None] = {
            resolve_alias(name): None if each is None else tuple(each)
            for name, each in (families or {}).items()
        }
        self._own: set[str] = set()  # the names whose statistics may change in place
        for name, value in unwrap_payload(data or {}).items():
            self._read(str(name), value)

    @classmethod
    def build(
        cls,
        data: Mapping[str, Any] | None = None,
        families: Mapping[str, Iterable[ConnectorFamily] | None] | None = None,
    ) -> MultiConnectorStats:
        """Return the statistics of *data* that `to_dict` has returned, in any process."""
        return cls(data, families)

    @classmethod
    def drain(
        cls,
        connectors: Iterable[Any],
        names: Iterable[str] | None = None,
        families: Mapping[str, Iterable[ConnectorFamily] | None] | None = None,
    ) -> MultiConnectorStats | None:
        """Call `get_kv_connector_stats` of each of the *connectors* once, and merge the results.

        Returns None if every connector returns None. A connector that raises is counted, and
        contributes nothing. The default *names* are the classes, and the default *families* are
        those that the connectors declare.
        """
        given = list(connectors)
        known = list(name_connectors(given) if names is None else names)
        drained = cls(families=collect_families(given, known) if families is None else families)
        named = zip(known, given, strict=True)
        has_stats = [drained._drain(name, connector) for name, connector in named]
        return drained if any(has_stats) else None

    def aggregate(self, other: object) -> MultiConnectorStats:
        """Merge *other* statistics of several connectors into these, and return these.

        None changes nothing. Raises `ConnectorStatsError` for anything else that is not statistics
        of several connectors.
        """
        if other is None:
            return self
        if isinstance(other, ConnectorStats):
            raise ConnectorStatsError(other, _SEVERAL)
        theirs = other if isinstance(other, MultiConnectorStats) else self._build(get_data(other))
        self.unknown.update(theirs.unknown)
        self.refused.update(theirs.refused)
        for name, stats in list(theirs.data.items()):
            # Without a copy, their later counts would show up here.
            self._add(name, stats if name in self.data else copy_stats(stats), is_own=True)
        return self

    def reduce(self) -> dict[str, Any]:
        """Return the figures of each connector, for the log, by name or alias."""
        return AliasedDict((name, stats.reduce()) for name, stats in self.data.items())

    def reset(self) -> None:
        """Reset the statistics of each connector; only the first `MOST_KEYS` connectors stay."""
        for name in list(self.data)[MOST_KEYS:]:
            del self.data[name]
            self._own.discard(name)
        for name in self.data:
            self._get_own(name).reset()
        self.unknown, self.refused = Counter(), Counter()

    def is_empty(self) -> bool:
        """Return whether no connector has any number."""
        return all(stats.is_empty() for stats in self.data.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the data of each connector, flat, ready to be sent, by name or alias."""
        return AliasedDict((name, stats.to_dict()) for name, stats in self.data.items())

    def __getitem__(self, name: str) -> Any:
        """Return the statistics of one connector."""
        return self.data[name]

    def __setitem__(self, name: str, stats: object) -> None:
        """Replace the statistics of one connector."""
        self.data[name] = stats
        self._own.discard(resolve_alias(name))

    def __contains__(self, name: object) -> bool:
        """Return whether there are statistics of a connector."""
        return name in self.data

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the connectors."""
        return iter(self.data)

    def __len__(self) -> int:
        """Return the number of connectors with statistics."""
        return len(self.data)

    def __bool__(self) -> bool:
        """Return True, even without connectors: an engine takes None for "no statistics"."""
        return True

    def __getstate__(self) -> tuple[Any, ...]:
        """Return the state for pickle, which runs at every step of an engine."""
        declared = {
            name: each and abbreviate_families(each) for name, each in self._declared.items()
        }
        return self.data, self.unknown, self.refused, declared

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Restore the state from pickle; all statistics in it belong to this object alone."""
        self.data, self.unknown, self.refused, declared = state
        self._declared = {name: each and expand_families(each) for name, each in declared.items()}
        self._own = set(self.data)

    def __repr__(self) -> str:
        """Return the class and the data."""
        return f"{type(self).__name__}({dict(self.data)!r})"

    def _drain(self, name: str, connector: Any) -> bool:
        """Add the statistics of one connector; return whether it has any."""
        get_stats = getattr(connector, "get_kv_connector_stats", None)
        try:
            stats = get_stats() if callable(get_stats) else None
            if isinstance(stats, MultiConnectorStats):
                self.aggregate(stats)
            elif stats is not None:
                # The connector may go on counting in the object that it has returned.
                own = stats if isinstance(stats, Mapping) else copy_stats(stats)
                before = self._count_refused(name)
                self._read(name, own, is_own=True)
                # Counted in this process, since `to_dict` does not carry `refused` to another.
                for _ in range(self._count_refused(name) - before):
                    ERRORS.count(f"connector {name}", NO_NUMBER)
        except Exception as error:  # statistics must not cost the engine
            ERRORS.count(f"connector {name}", "raised", error)
            return False
        return stats is not None

    def _count_refused(self, name: str) -> int:
        """Return how many values of one connector were left out so far."""
        stats = self.data.get(name)
        of_keys = stats.refused.values() if isinstance(stats, ConnectorStats) else ()
        return self.refused[name] + sum(of_keys)

    def _read(self, name: str, value: Any, *, is_own: bool = False) -> None:
        """Add the numbers, or the object of statistics, that one connector has sent."""
        name = resolve_alias(name)
        is_known = name in self._declared or name in CONNECTOR_FAMILIES
        families = self._get_families(name)
        if value is None or families is None:
            return
        if not isinstance(value, Mapping):
            self._add_object(name, value, is_own=is_own)
        elif name == COMPOSITE and not is_known:
            self._unpack(name, value)
        else:
            self.unknown.update([] if is_known else [name])
            self._add(name, ConnectorStats(value, families), is_own=True)

    def _get_families(self, name: str) -> Families | None:
        """Return the families of a connector, None if its statistics are to be dropped."""
        return self._declared.get(name, CONNECTOR_FAMILIES.get(name, ()))

    def _unpack(self, name: str, data: Mapping[str, Any]) -> None:
        """Add the statistics of a composite, or count one that is nested too deeply."""
        try:
            self.aggregate(self._build(data))
        except RecursionError:
            self.refused[name] += 1

    def _add_object(self, name: str, stats: object, *, is_own: bool) -> None:
        """Add an object that can aggregate; count any other in `refused`."""
        if callable(getattr(stats, "aggregate", None)):
            self._add(name, stats, is_own=is_own)
        else:
            self.refused[name] += 1

    def _build(self, data: Mapping[str, Any]) -> MultiConnectorStats:
        """Return statistics of *data*, with the declarations of these."""
        return MultiConnectorStats(data, self._declared)

    def _add(self, name: str, stats: object, *, is_own: bool = False) -> None:
        """Merge the statistics of one connector into its earlier ones."""
        if name not in self.data:
            self.data[name] = stats
            self._own.update([name] if is_own else [])
            return
        mine = self._get_own(name)
        if not isinstance(mine, ConnectorStats) and type(mine) is not type(stats):
            # Two classes of statistics under one name have only the numbers in common.
            mine = ConnectorStats(get_data(mine), self._get_families(name) or ())
        self.data[name] = mine.aggregate(stats)

    def _get_own(self, name: str) -> Any:
        """Return the statistics of one connector, copied if another object may share them."""
        if name not in self._own:
            self.data[name] = copy_stats(self.data[name])
            self._own.add(name)
        return self.data[name]
