"""Metrics with labels that are always the same, in a registry of their own.

prometheus_client knows no constant labels. They are ordinary ones here, so that they are in the
files of the multiprocess mode, too, and a metric is bound to them when it is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mpmetrics._forks import ForkSafeLock
from mpmetrics.engines.dynamo.sanitize import sanitized_label, sanitized_name
from mpmetrics.engines.errors import MetricConflictError
from mpmetrics.errors import LabelError
from mpmetrics.exposition import check_labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RESERVED: Final = ("dynamo_namespace", "dynamo_component", "dynamo_endpoint", "worker_id")
"""Labels that say where a metric is; nobody may give them."""

_CLASSES: Final = {"counter": "Counter", "gauge": "Gauge", "histogram": "Histogram"}


class Definition(NamedTuple):
    """What a metric is: its *kind*, help and *labels* to be given later; and *options*."""

    kind: str
    documentation: str
    labels: tuple[str, ...]
    constant: tuple[tuple[str, str], ...]
    options: tuple[tuple[str, object], ...] = ()

    def __str__(self) -> str:
        """Return it for a sentence."""
        options = "".join(f", {name} {value}" for name, value in self.options)
        labels = [*self.labels, *(f"{name}={value!r}" for name, value in self.constant)]
        return f"a {self.kind} ({self.documentation!r}, labels [{', '.join(labels)}]{options})"


class LabelledMetric:
    """A metric some of whose labels are constant; `labels` takes the others."""

    def __init__(self, metric: Any, names: tuple[str, ...], constant: Mapping[str, str]) -> None:
        """Bind *metric* to the *constant* labels; the *names* are those that are left."""
        self._metric = metric
        self._names = names
        self._constant = constant

    def labels(self, *values: object, **named: object) -> Any:
        """Return the series with these label values, by position or by name.

        Raises `ValueError` as prometheus_client does, for too few, too many or unknown labels.
        """
        if values and not named and len(values) == len(self._names):
            named = dict(zip(self._names, values, strict=True))
        elif values or set(named) != set(self._names):
            message = f"the labels are {self._names}, not {values or tuple(named)}"
            raise ValueError(message)
        return self._metric.labels(**self._constant, **named)


class MetricShelf:
    """The metrics of one level of a hierarchy, with the *automatic* labels of that level."""

    def __init__(self, prefix: str, automatic: Mapping[str, str]) -> None:
        """Begin without metrics; names are going to begin with *prefix*."""
        import prometheus_client  # see the package

        self.registry = prometheus_client.CollectorRegistry()
        self._prefix = prefix
        self._automatic = automatic
        self._made: dict[str, tuple[Definition, Any]] = {}
        self._lock = ForkSafeLock()

    def make(self, name: str, definition: Definition) -> Any:
        """Return a metric, bound as far as its labels are known; the same one if it is there.

        Raises `LabelError`, `NameSanitizingError`, and `MetricConflictError` if another metric
        has the name.
        """
        full = self.full_name(name)
        names, constant = self._checked(definition)
        definition = definition._replace(labels=names, constant=tuple(sorted(constant.items())))
        with self._lock:
            if full not in self._made:
                self._made[full] = (definition, self._new(full, definition))
            there, metric = self._made[full]
        if there != definition:
            raise MetricConflictError(full, str(there), str(definition))
        return metric

    def full_name(self, name: str) -> str:
        """Return the whole name of a metric. Raises `NameSanitizingError`."""
        clean = sanitized_name(name)
        return clean if clean.startswith(self._prefix) else self._prefix + clean

    def _new(self, full: str, definition: Definition) -> Any:
        """Make and bind the metric with the name *full*."""
        import prometheus_client  # see the package

        constant = {**self._automatic, **dict(definition.constant)}
        options: dict[str, Any] = dict(definition.options)
        make = getattr(prometheus_client, _CLASSES[definition.kind])
        try:
            metric = make(
                full,
                definition.documentation,
                (*sorted(constant), *definition.labels),
                registry=self.registry,
                **options,
            )
        except ValueError as error:
            if "Duplicated timeseries" not in str(error):
                raise  # buckets or a mode that cannot be
            # Another metric exposes one of its names.
            raise MetricConflictError(full, str(error), str(definition)) from error
        if definition.labels:
            return LabelledMetric(metric, definition.labels, constant)
        return metric.labels(**constant) if constant else metric

    def _checked(self, definition: Definition) -> tuple[tuple[str, ...], dict[str, str]]:
        """Return the names of the labels, and the constant ones. Raises `LabelError`."""
        names = tuple(sanitized_label(name) for name in definition.labels)
        constant = [(sanitized_label(name), value) for name, value in definition.constant]
        every = [*names, *(name for name, _ in constant)]
        for name in every:
            if name in RESERVED or name in self._automatic:
                raise LabelError(name, "it is given automatically")
            if every.count(name) > 1:
                raise LabelError(name, "there are two of that name")
        check_labels(dict.fromkeys(every, ""))
        return names, dict(check_labels(dict(constant)))


def definition(
    kind: str,
    documentation: str,
    labelnames: Iterable[str],
    const_labels: Mapping[str, str] | None,
    **options: object,
) -> Definition:
    """Return a definition with those of the *options* that were given."""
    labels = (labelnames,) if isinstance(labelnames, str) else tuple(labelnames)
    given = tuple((name, value) for name, value in options.items() if value is not None)
    return Definition(kind, documentation, labels, tuple((const_labels or {}).items()), given)
