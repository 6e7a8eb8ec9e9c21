"""The statistics of several connectors between two looks at them, kept apart by who they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from mpmetrics.engines.connectors.errors import ConnectorStatsError
from mpmetrics.engines.connectors.known_families import (
    CONNECTOR_FAMILIES,
    shortened,
    spelled_out,
)
from mpmetrics.engines.connectors.lookup import declarations
from mpmetrics.engines.connectors.names import ByIdentity, identities, identity
from mpmetrics.engines.connectors.numbers import payload
from mpmetrics.engines.connectors.recording import MOST_KEYS, NO_NUMBER
from mpmetrics.engines.connectors.stats import ConnectorStats, copy_of, data_of
from mpmetrics.engines.observers import ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mpmetrics.engines.connectors.families import ConnectorFamily

    Families = tuple[ConnectorFamily, ...]

COMPOSITE: Final = "MultiConnector"
"""The identity of a composite, the statistics of which are those of its connectors."""

_SEVERAL: Final = "statistics of several connectors"


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
        families: Mapping[str, Iterable[ConnectorFamily] | None] | None = None,
    ) -> None:
        """Begin with *data*, flat or under "data", in which objects and numbers may be mixed."""
        self.data: ByIdentity[Any] = ByIdentity()
        self.unknown: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._declared: dict[str, Families | None] = {
            identity(name): None if each is None else tuple(each)
            for name, each in (families or {}).items()
        }
        self._own: set[str] = set()
        for name, value in payload(data or {}).items():
            self._read(str(name), value)

    @classmethod
    def build(
        cls,
        data: Mapping[str, Any] | None = None,
        families: Mapping[str, Iterable[ConnectorFamily] | None] | None = None,
    ) -> MultiConnectorStats:
        """Return statistics that were sent: *data* as they are in `to_dict`."""
        return cls(data, families)

    @classmethod
    def drain(
        cls,
        connectors: Iterable[Any],
        names: Iterable[str] | None = None,
        families: Mapping[str, Iterable[ConnectorFamily] | None] | None = None,
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
        theirs = other if isinstance(other, MultiConnectorStats) else self._built(data_of(other))
        self.unknown.update(theirs.unknown)
        self.refused.update(theirs.refused)
        for name, stats in list(theirs.data.items()):
            # A reference would be enough until the others go on counting.
            self._add(name, stats if name in self.data else copy_of(stats), is_own=True)
        return self

    def reduce(self) -> dict[str, Any]:
        """Return the figures of each connector, for a person; other names find them, too."""
        return ByIdentity((name, stats.reduce()) for name, stats in self.data.items())

    def reset(self) -> None:
        """Have each connector forget its numbers; of very many, the later ones are forgotten."""
        for name in list(self.data)[MOST_KEYS:]:
            del self.data[name]
            self._own.discard(name)
        for name in self.data:
            self._owned(name).reset()
        self.unknown, self.refused = Counter(), Counter()

    def is_empty(self) -> bool:
        """Tell whether no connector has any number."""
        return all(stats.is_empty() for stats in self.data.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the data of each connector, flat, as they are sent; other names find them, too."""
        return ByIdentity((name, stats.to_dict()) for name, stats in self.data.items())

    def __getitem__(self, name: str) -> Any:
        """Return the statistics of one connector."""
        return self.data[name]

    def __setitem__(self, name: str, stats: object) -> None:
        """Replace the statistics of one connector."""
        self.data[name] = stats
        self._own.discard(identity(name))

    def __contains__(self, name: object) -> bool:
        """Tell whether there are statistics of a connector."""
        return name in self.data

    def __iter__(self) -> Iterator[str]:
        """Return the names of the connectors."""
        return iter(self.data)

    def __len__(self) -> int:
        """Return how many connectors there are statistics of."""
        return len(self.data)

    def __bool__(self) -> bool:
        """Tell that there are statistics, if of no connector: None is for when there are none."""
        return True

    def __getstate__(self) -> tuple[Any, ...]:
        """Return what is sent to another process, with every step of an engine."""
        declared = {name: each and shortened(each) for name, each in self._declared.items()}
        return self.data, self.unknown, self.refused, declared

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Be what was sent; nobody else has it."""
        self.data, self.unknown, self.refused, declared = state
        self._declared = {name: each and spelled_out(each) for name, each in declared.items()}
        self._own = set(self.data)

    def __repr__(self) -> str:
        """Return what is in it."""
        return f"{type(self).__name__}({dict(self.data)!r})"

    def _drain(self, name: str, connector: Any) -> bool:
        """Add what one connector has; tell whether that is anything."""
        ask = getattr(connector, "get_kv_connector_stats", None)
        try:
            stats = ask() if callable(ask) else None
            if isinstance(stats, MultiConnectorStats):
                self.aggregate(stats)
            elif stats is not None:
                # The connector may go on counting in what it has given.
                own = stats if isinstance(stats, Mapping) else copy_of(stats)
                before = self._refused_of(name)
                self._read(name, own, is_own=True)
                # Here, since what is sent on does not say what was left out of it.
                for _ in range(self._refused_of(name) - before):
                    ERRORS.count(f"connector {name}", NO_NUMBER)
        except Exception as error:  # statistics must not cost the engine
            ERRORS.count(f"connector {name}", "raised", error)
            return False
        return stats is not None

    def _refused_of(self, name: str) -> int:
        """Return how much was left out of what one connector has sent."""
        stats = self.data.get(name)
        of_keys = stats.refused.values() if isinstance(stats, ConnectorStats) else ()
        return self.refused[name] + sum(of_keys)

    def _read(
        self,
        name: str,
        value: Any,
        *,
        is_own: bool = False,
    ) -> None:
        """Add what one connector has sent; objects stay what they are."""
        name = identity(name)
        is_known = name in self._declared or name in CONNECTOR_FAMILIES
        families = self._families_of(name)
        if value is None or families is None:
            return
        if not isinstance(value, Mapping):
            self._take(name, value, is_own=is_own)
        elif name == COMPOSITE and not is_known:
            self._unpack(name, value)
        else:
            self.unknown.update([] if is_known else [name])
            self._add(name, ConnectorStats(value, families), is_own=True)

    def _families_of(self, name: str) -> Families | None:
        """Return what a connector declares, None if its statistics do not matter."""
        return self._declared.get(name, CONNECTOR_FAMILIES.get(name, ()))

    def _unpack(self, name: str, data: Mapping[str, Any]) -> None:
        """Add what a composite has sent, unless there are too many within each other."""
        try:
            self.aggregate(self._built(data))
        except RecursionError:
            self.refused[name] += 1

    def _take(self, name: str, stats: object, *, is_own: bool) -> None:
        """Add an object, if it is one of statistics."""
        if callable(getattr(stats, "aggregate", None)):
            self._add(name, stats, is_own=is_own)
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
            mine = ConnectorStats(data_of(mine), self._families_of(name) or ())
        self.data[name] = mine.aggregate(stats)

    def _owned(self, name: str) -> Any:
        """Return statistics that may be changed, which are copied if they are somebody else's."""
        if name not in self._own:
            self.data[name] = copy_of(self.data[name])
            self._own.add(name)
        return self.data[name]
