"""The metrics of connectors, in one place for all of them: a connector declares, and sends numbers.

A family is made once for each registry, whoever declares it. Nothing is raised for numbers that
cannot be shown: they are counted, by connector and reason, and the first is logged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from mpmetrics.engines.connectors.errors import ConnectorStatsError
from mpmetrics.engines.connectors.families import united
from mpmetrics.engines.connectors.lookup import declarations
from mpmetrics.engines.connectors.multistats import COMPOSITE, MultiConnectorStats
from mpmetrics.engines.connectors.names import ByIdentity, identities, identity
from mpmetrics.engines.connectors.numbers import cells, is_blank, payload
from mpmetrics.engines.connectors.recording import (
    FEEDS,
    LABELS,
    NO_NUMBER,
    RAISED,
    UNKNOWN,
    Refusals,
)
from mpmetrics.engines.connectors.registering import registered
from mpmetrics.engines.connectors.stats import ConnectorStats, data_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mpmetrics.engines.connectors.families import ConnectorFamily
    from mpmetrics.engines.connectors.numbers import Cell, Labels


_MOST_COMPOSITES: Final = 16
"""Within each other. Those without end are refused while there is still room to count that."""


class Exporter(Protocol):
    """Whoever shows the numbers of a connector."""

    def observe(self, data: Any, engine_idx: int = 0) -> object:
        """Show *data* of one interval, of the engine with this number."""
        ...  # pragma: no cover - a protocol has no body


class ConnectorMetrics:
    """The metrics of one connector, or of one class of them, in a registry."""

    def __init__(
        self,
        families: Iterable[ConnectorFamily],
        registry: Any = None,
        *,
        owner: str = "connector",
        model_name: str = "",
        engines: Iterable[int | str] = (),
        connector: str | None = None,
    ) -> None:
        """Register *families* in *registry* (None: the global one), unless they are there.

        *owner* is who declares them. Series without labels of their own are there at 0 for each
        of the *engines*. With *connector* they all have a label of this name and value. Raises
        `ConnectorConflictError`, and registers nothing, when somebody else has declared one of
        them differently.
        """
        self._families = united((owner, family) for family in families)
        self._refusals = Refusals(owner)
        self._model_name = model_name
        self._connector = () if connector is None else (connector,)
        names = ("model_name", "engine", *(("connector",) if self._connector else ()))
        self._metrics = registered({owner: self._families}, names, registry)
        self._routes: dict[str, list[ConnectorFamily]] = {}
        for family in self._families:
            for key in family.keys:
                self._routes.setdefault(key, []).append(family)
        for engine in engines:
            for family in self._families:
                if not family.labels:
                    self._series(family, engine, ())

    def observe(self, data: Any, engine_idx: int | str = 0) -> None:
        """Show *data* of one interval of an engine: statistics, or what they were sent as.

        Never raises: `refused` tells what was left out, and why.
        """
        try:
            stats = self._read(data)
        except Exception as error:  # somebody else's statistics may raise anything
            self._refusals.count("", _reason(error), error)
            return
        for key, value in stats.data.items():
            if is_blank(value):
                continue
            if key not in self._routes:
                self._refusals.count(key, UNKNOWN)
            for family in self._routes.get(key, ()):
                for labels, cell in cells(value).items():
                    self._show(family, key, engine_idx, labels, cell)

    @property
    def refused(self) -> dict[tuple[str, str], int]:
        """What was left out, by key and reason."""
        return self._refusals.counts()

    def _read(self, data: Any) -> ConnectorStats:
        """Return statistics as they merge by the families here; of None, empty ones."""
        stats = ConnectorStats(families=self._families).aggregate(data)
        for key, count in stats.refused.items():
            for _ in range(count):
                self._refusals.count(key, NO_NUMBER)
        return stats

    def _show(
        self, family: ConnectorFamily, key: str, engine: int | str, labels: Labels, cell: Cell
    ) -> None:
        """Feed what was sent for one series into it."""
        if len(labels) != len(family.labels):
            self._refusals.count(key, LABELS)
            return
        try:
            refused = FEEDS[family.type, family.merge](self._series(family, engine, labels), cell)
        except Exception as error:  # a full disk must not cost the engine
            self._refusals.count(key, RAISED, error)
            return
        for reason in refused:
            self._refusals.count(key, reason)

    def _series(self, family: ConnectorFamily, engine: int | str, labels: Labels) -> Any:
        """Return one series of a family."""
        whose = (self._model_name, str(engine), *self._connector)
        return self._metrics[family.name].labels(*whose, *labels)


class MultiConnectorMetrics:
    """The metrics of several connectors, by who they are; None for one that has none."""

    def __init__(self, metrics: Mapping[str, Exporter | None]) -> None:
        """Take who shows the numbers of which connector."""
        self._metrics: ByIdentity[Exporter | None] = ByIdentity()
        self._metrics.update((identity(name), each) for name, each in metrics.items())
        self._refusals = Refusals(COMPOSITE)

    @classmethod
    def of(
        cls,
        families: Mapping[str, Iterable[ConnectorFamily]],
        registry: Any = None,
        *,
        model_name: str = "",
        engines: Iterable[int | str] = (),
        connector_label: bool = False,
    ) -> MultiConnectorMetrics:
        """Register all *families* of all connectors, and return what shows them.

        With *connector_label* each connector has series of its own. Raises
        `ConnectorConflictError`, and registers nothing, when two of them do not agree.
        """
        owned: dict[str, list[tuple[str, ConnectorFamily]]] = {}
        for name, each in families.items():
            owned.setdefault(identity(name), []).extend((name, family) for family in each)
        given = {name: united(each) for name, each in owned.items()}
        label = ("connector",) if connector_label else ()
        registered(given, ("model_name", "engine", *label), registry)
        numbers = tuple(engines)
        return cls(
            {
                name: ConnectorMetrics(
                    each,
                    registry,
                    owner=name,
                    model_name=model_name,
                    engines=numbers,
                    connector=name if connector_label else None,
                )
                for name, each in given.items()
            }
        )

    @classmethod
    def of_connectors(
        cls,
        connectors: Iterable[Any],
        registry: Any = None,
        **options: Any,
    ) -> MultiConnectorMetrics:
        """Register all that *connectors*, or classes of them, declare.

        The *options*, and what is raised, are those of `of`.
        """
        asked = list(connectors)
        return cls.of(declarations(asked, identities(asked)), registry, **options)

    def observe(self, data: Any, engine_idx: int = 0) -> None:
        """Show *data* of one interval of an engine: statistics, or what they were sent as.

        Each connector gets its own, flat. Never raises: connectors that nobody knows, and what is
        wrong with the others, are counted.
        """
        self._observe_all(data, engine_idx, _MOST_COMPOSITES)

    @property
    def refused(self) -> dict[tuple[str, str], int]:
        """What was left out, by connector and reason; of single keys, the connector's own knows."""
        return self._refusals.counts()

    def __getitem__(self, name: str) -> Exporter | None:
        """Return who shows the numbers of a connector."""
        return self._metrics[name]

    def _observe_all(self, data: Any, engine_idx: int, composites: int) -> None:
        """Hand each connector its own, also in as many *composites* within each other."""
        try:
            for name, value in _by_connector(data):
                if name == COMPOSITE and name not in self._metrics and composites:
                    self._observe_all(value, engine_idx, composites - 1)
                else:
                    self._observe(name, value, engine_idx)
        except Exception as error:  # somebody else's statistics may raise anything
            self._refusals.count("", _reason(error), error)

    def _observe(self, name: str, value: Any, engine_idx: int) -> None:
        """Hand one connector its own."""
        if name not in self._metrics:
            self._refusals.count(name, UNKNOWN)
            return
        exporter = self._metrics[name]
        if exporter is None:
            return
        try:
            exporter.observe(_flat(value), engine_idx)
        except Exception as error:  # somebody else's exporter may raise anything
            self._refusals.count(name, RAISED, error)


def _by_connector(data: Any) -> list[tuple[str, Any]]:
    """Return the statistics of several connectors one by one. Raises `ConnectorStatsError`."""
    if data is None:
        return []
    sent = data.data if isinstance(data, MultiConnectorStats) else payload(data_of(data))
    return [(str(name), value) for name, value in sent.items()]


def _flat(value: Any) -> Any:
    """Return the numbers of one connector as they are sent; what has none, as it is."""
    try:
        return payload(data_of(value))
    except ConnectorStatsError:
        return value


def _reason(error: Exception) -> str:
    """Return why there are no statistics."""
    return NO_NUMBER if isinstance(error, ConnectorStatsError) else RAISED
