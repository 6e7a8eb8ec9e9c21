"""The metrics of connectors: each connector declares families, and sends numbers.

A family is made once for each registry, however many connectors declare it. A number that cannot
be shown raises nothing: it is counted by connector and reason, and the first one is logged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from mpmetrics.engines.connectors.errors import ConnectorStatsError
from mpmetrics.engines.connectors.families import unite_families
from mpmetrics.engines.connectors.known_families import (
    LOG_ONLY,
    OFFLOAD_INFO,
    OFFLOAD_SETTINGS,
    is_offloading,
    offload_info,
)
from mpmetrics.engines.connectors.lookup import collect_families
from mpmetrics.engines.connectors.multistats import COMPOSITE, MultiConnectorStats
from mpmetrics.engines.connectors.names import AliasedDict, name_connectors, resolve_alias
from mpmetrics.engines.connectors.numbers import is_blank, to_cells, unwrap_payload
from mpmetrics.engines.connectors.recording import RECORDERS
from mpmetrics.engines.connectors.registration import register_connector_families
from mpmetrics.engines.connectors.rejections import (
    LABELS,
    NO_NUMBER,
    RAISED,
    UNKNOWN,
    Rejections,
)
from mpmetrics.engines.connectors.stats import ConnectorStats, get_data

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mpmetrics.engines.connectors.families import ConnectorFamily
    from mpmetrics.engines.connectors.numbers import Cell, LabelValues, Settings

_DEEPEST_NESTING: Final = 16
"""The limit for composites within composites: far below the limit of recursion."""


class Exporter(Protocol):
    """An object that shows the numbers of a connector."""

    def observe(self, data: Any, engine_idx: int = 0) -> object:
        """Show the *data* of one interval of the engine with this number."""
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
        """Register *families* in *registry* (None: the global one), or use what is registered.

        *owner* is the connector that declares them. Families without labels of their own, and
        copies of others' numbers, have a series at 0 for each of the *engines* from the start. With
        *connector*, all series have the label `connector` with this value. Raises
        `ConnectorConflictError`, and registers nothing, when another owner has declared one of them
        differently.
        """
        self._families = unite_families((owner, family) for family in families)
        self._rejections = Rejections(owner)
        self._model_name = model_name
        self._connector = () if connector is None else (connector,)
        self._owner = owner
        self._registry = registry
        self._metrics = self._register(self._families)
        self._families_by_key: dict[str, list[ConnectorFamily]] = {}
        self._copies_by_key: dict[str, list[tuple[ConnectorFamily, LabelValues]]] = {}
        for family in self._families:
            for key in family.keys:
                self._families_by_key.setdefault(key, []).append(family)
            for copy in family.copies:
                self._copies_by_key.setdefault(copy.key, []).append((family, copy.labels))
        self._info = next((each for each in self._families if each.name == OFFLOAD_INFO), None)
        for engine in engines:
            for family in self._families:
                for labels in [copy.labels for copy in family.copies] if family.labels else [()]:
                    self._get_series(family, engine, labels)

    def observe(self, data: Any, engine_idx: int | str = 0) -> None:
        """Show the *data* of one interval of an engine: statistics, or their `to_dict`.

        Never raises; `refused` has what was left out, and why.
        """
        try:
            stats = self._read(data)
        except Exception as error:  # statistics of another class may raise anything
            self._rejections.count("", _find_reason(error), error)
            return
        for key, value in stats.data.items():
            if is_blank(value) or key in LOG_ONLY:
                continue
            if key not in self._families_by_key:
                self._rejections.count(key, UNKNOWN)
            for family in self._families_by_key.get(key, ()):
                for labels, cell in to_cells(value).items():
                    self._record(family, key, engine_idx, labels, cell)
            for family, labels in self._copies_by_key.get(key, ()):
                bare = to_cells(value).get(())
                # An older engine sends the numbers of the copy itself.
                sent = [stats.data[each] for each in family.keys if each in stats.data]
                if bare is not None and all(map(is_blank, sent)):
                    self._record(family, key, engine_idx, labels, bare)
        if stats.info is not None:
            self._show_settings(stats.info, engine_idx)

    @property
    def refused(self) -> dict[tuple[str, str], int]:
        """How many numbers were left out, by key and reason."""
        return self._rejections.counts()

    def _read(self, data: Any) -> ConnectorStats:
        """Return *data* as statistics with the declared merges; None gives empty ones."""
        stats = ConnectorStats(families=self._families).aggregate(data)
        for key, count in stats.refused.items():
            for _ in range(count):
                self._rejections.count(key, NO_NUMBER)
        return stats

    def _record(
        self, family: ConnectorFamily, key: str, engine: int | str, labels: LabelValues, cell: Cell
    ) -> None:
        """Record the *cell* that was sent under a *key* in one series, or count why not."""
        if len(labels) != len(family.labels):
            self._rejections.count(key, LABELS)
            return
        record = RECORDERS[family.type, family.merge]
        try:
            reasons = record(self._get_series(family, engine, labels), cell)
        except Exception as error:  # a full disk must not cost the engine
            self._rejections.count(key, RAISED, error)
            return
        for reason in reasons:
            self._rejections.count(key, reason)

    def _register(self, families: Iterable[ConnectorFamily]) -> dict[str, Any]:
        """Register *families*, or use what is registered; return the metrics by name."""
        labels = ("model_name", "engine", *(("connector",) if self._connector else ()))
        return register_connector_families({self._owner: families}, labels, self._registry)

    def _show_settings(self, settings: Settings, engine: int | str) -> None:
        """Set one series to 1 for each of the *settings* of an offloading connector.

        Which labels they need depends on the engine's configuration: if no family is declared for
        them, the first settings define it. A setting without a label is left out, and counted.
        """
        try:
            family = self._find_info(settings)
            if family is None:
                self._rejections.count("info", UNKNOWN)
                return
            for each in settings:
                self._record(
                    *(family, "info", engine),
                    tuple(each.get(name, "") for name in family.labels),
                    1,
                )
        except Exception as error:  # for example, another metric has the name
            self._rejections.count("info", RAISED, error)
            return
        for name in sorted({name for each in settings for name in each} - {*family.labels}):
            self._rejections.count(f"info: {name}", LABELS)

    def _find_info(self, settings: Settings) -> ConnectorFamily | None:
        """Return the family of the *settings*, None if this connector has none."""
        if self._info is None and is_offloading(self._families):
            names = {name: None for each in settings for name in each}
            info = offload_info(*dict.fromkeys((*OFFLOAD_SETTINGS, *names)))
            self._metrics.update(self._register([info]))
            self._info = info
        return self._info

    def _get_series(self, family: ConnectorFamily, engine: int | str, labels: LabelValues) -> Any:
        """Return one series of a family."""
        common = (self._model_name, str(engine), *self._connector)
        return self._metrics[family.name].labels(*common, *labels)


class MultiConnectorMetrics:
    """The metrics of several connectors, by the name of the connector."""

    def __init__(self, metrics: Mapping[str, Exporter | None]) -> None:
        """Take the exporter of each connector; None drops the numbers of a connector."""
        self._metrics: AliasedDict[Exporter | None] = AliasedDict()
        self._metrics.update((resolve_alias(name), each) for name, each in metrics.items())
        self._rejections = Rejections(COMPOSITE)

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
        """Register the *families* of all connectors, and return their metrics.

        With *connector_label*, each connector has its own series. Raises
        `ConnectorConflictError`, and registers nothing, when two connectors disagree.
        """
        owned: dict[str, list[tuple[str, ConnectorFamily]]] = {}
        for name, each in families.items():
            owned.setdefault(resolve_alias(name), []).extend((name, family) for family in each)
        given = {name: unite_families(each) for name, each in owned.items()}
        label = ("connector",) if connector_label else ()
        # All of them at once, so that a conflict registers nothing; below they exist already.
        register_connector_families(given, ("model_name", "engine", *label), registry)
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
        """Register the families that *connectors*, or classes of them, declare.

        The *options* and the errors are those of `of`.
        """
        given = list(connectors)
        return cls.of(collect_families(given, name_connectors(given)), registry, **options)

    def observe(self, data: Any, engine_idx: int = 0) -> None:
        """Show the *data* of one interval of an engine: statistics, or their `to_dict`.

        The exporter of each connector gets that connector's numbers, flat. Never raises: unknown
        connectors and all failures are counted.
        """
        self._observe_all(data, engine_idx, _DEEPEST_NESTING)

    @property
    def refused(self) -> dict[tuple[str, str], int]:
        """How often numbers were left out, by connector and reason.

        For single keys, see `refused` of the connector's own metrics.
        """
        return self._rejections.counts()

    def __getitem__(self, name: str) -> Exporter | None:
        """Return the exporter of a connector."""
        return self._metrics[name]

    def _observe_all(self, data: Any, engine_idx: int, nesting: int) -> None:
        """Pass each connector its numbers; enter composites down to *nesting* levels."""
        try:
            for name, value in _split_by_connector(data):
                if name == COMPOSITE and name not in self._metrics and nesting:
                    self._observe_all(value, engine_idx, nesting - 1)
                else:
                    self._observe(name, value, engine_idx)
        except Exception as error:  # statistics of another class may raise anything
            self._rejections.count("", _find_reason(error), error)

    def _observe(self, name: str, value: Any, engine_idx: int) -> None:
        """Pass one connector its numbers."""
        if name not in self._metrics:
            self._rejections.count(name, UNKNOWN)
            return
        exporter = self._metrics[name]
        if exporter is None:
            return
        try:
            is_own = isinstance(exporter, ConnectorMetrics)
            exporter.observe(value if is_own else _flatten(value), engine_idx)
        except Exception as error:  # an exporter of another class may raise anything
            self._rejections.count(name, RAISED, error)


def _split_by_connector(data: Any) -> list[tuple[str, Any]]:
    """Return the name and the statistics of each connector in *data*.

    Raises `ConnectorStatsError` if *data* are not statistics.
    """
    if data is None:
        return []
    by_name = data.data if isinstance(data, MultiConnectorStats) else unwrap_payload(get_data(data))
    return [(str(name), value) for name, value in by_name.items()]


def _flatten(value: Any) -> Any:
    """Return the numbers of one connector as a flat mapping; return anything else unchanged."""
    try:
        return unwrap_payload(get_data(value))
    except ConnectorStatsError:
        return value


def _find_reason(error: Exception) -> str:
    """Return the reason to count when reading statistics has failed with *error*."""
    return NO_NUMBER if isinstance(error, ConnectorStatsError) else RAISED
