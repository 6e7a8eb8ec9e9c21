"""Metrics with constant labels, in a registry of their own.

prometheus_client has no constant labels. Here they are ordinary labels, so that the files of the
multiprocess mode have them, too, and a metric is bound to their values when it is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mpmetrics._client import metric_class
from mpmetrics._forks import ForkSafeLock
from mpmetrics.engines.dynamo.sanitize import sanitize_label, sanitize_name
from mpmetrics.engines.errors import MetricConflictError
from mpmetrics.errors import LabelError
from mpmetrics.exposition import check_labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RESERVED_LABELS: Final = ("dynamo_namespace", "dynamo_component", "dynamo_endpoint", "worker_id")
"""Labels that identify the origin of a metric; callers cannot set them."""


class LabelledDefinition(NamedTuple):
    """What identifies a metric beside its name.

    Its *kind* and help, the *labels* that get their values later, the *constant* labels, and
    *options* of the metric class.
    """

    kind: str
    documentation: str
    labels: tuple[str, ...]
    constant: tuple[tuple[str, str], ...]
    options: tuple[tuple[str, object], ...] = ()

    def __str__(self) -> str:
        """Return the definition for a sentence."""
        options = "".join(f", {name} {value}" for name, value in self.options)
        labels = [*self.labels, *(f"{name}={value!r}" for name, value in self.constant)]
        return f"a {self.kind} ({self.documentation!r}, labels [{', '.join(labels)}]{options})"


def define_metric(
    kind: str,
    documentation: str,
    labelnames: Iterable[str],
    const_labels: Mapping[str, str] | None,
    **options: object,
) -> LabelledDefinition:
    """Return a definition with those of the *options* that are not None."""
    labels = (labelnames,) if isinstance(labelnames, str) else tuple(labelnames)
    given = tuple((name, value) for name, value in options.items() if value is not None)
    constant = tuple((const_labels or {}).items())
    return LabelledDefinition(kind, documentation, labels, constant, given)


class LabelledMetric:
    """A metric some of whose labels are constant; `labels` takes the values of the others."""

    def __init__(self, metric: Any, names: tuple[str, ...], constant: Mapping[str, str]) -> None:
        """Bind *metric* to the *constant* labels; *names* are the other labels."""
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


class MetricFactory:
    """The metrics of one registry, with a prefix and constant labels; each is made once."""

    def __init__(self, prefix: str, labels: Mapping[str, str]) -> None:
        """Create an empty registry; its metrics get the *prefix* and the constant *labels*."""
        import prometheus_client

        self.registry = prometheus_client.CollectorRegistry()
        self._prefix = prefix
        self._labels = labels
        self._metrics: dict[str, tuple[LabelledDefinition, Any]] = {}
        self._lock = ForkSafeLock()

    def make(self, name: str, definition: LabelledDefinition) -> Any:
        """Return the metric with this *name* and *definition*, bound to its constant labels.

        It is made at the first call. Raises `LabelError`, `NameSanitizingError`, and
        `MetricConflictError` if another metric has the name.
        """
        full_name = self.full_name(name)
        names, constant = self._check_labels(definition)
        definition = definition._replace(labels=names, constant=tuple(sorted(constant.items())))
        with self._lock:
            if full_name not in self._metrics:
                self._metrics[full_name] = (definition, self._create(full_name, definition))
            there, metric = self._metrics[full_name]
        if there != definition:
            raise MetricConflictError(full_name, str(there), str(definition))
        return metric

    def full_name(self, name: str) -> str:
        """Return *name*, sanitized and with the prefix. Raises `NameSanitizingError`."""
        clean = sanitize_name(name)
        return clean if clean.startswith(self._prefix) else self._prefix + clean

    def _create(self, full_name: str, definition: LabelledDefinition) -> Any:
        """Create the metric with this *full_name*, and bind it to its constant labels."""
        constant = {**self._labels, **dict(definition.constant)}
        options: dict[str, Any] = dict(definition.options)
        make = metric_class(definition.kind)
        try:
            metric = make(
                full_name,
                definition.documentation,
                (*sorted(constant), *definition.labels),
                registry=self.registry,
                **options,
            )
        except ValueError as error:
            if "Duplicated timeseries" not in str(error):
                raise  # buckets or a mode that prometheus_client rejects
            # Another metric exposes one of its names.
            raise MetricConflictError(full_name, str(error), str(definition)) from error
        if definition.labels:
            return LabelledMetric(metric, definition.labels, constant)
        return metric.labels(**constant) if constant else metric

    def _check_labels(
        self, definition: LabelledDefinition
    ) -> tuple[tuple[str, ...], dict[str, str]]:
        """Return the label names and the constant labels, sanitized. Raises `LabelError`."""
        names = tuple(sanitize_label(name) for name in definition.labels)
        constant = [(sanitize_label(name), value) for name, value in definition.constant]
        every = [*names, *(name for name, _ in constant)]
        for name in every:
            if name in RESERVED_LABELS or name in self._labels:
                raise LabelError(name, "it is given automatically")
            if every.count(name) > 1:
                raise LabelError(name, "there are two of that name")
        check_labels(dict.fromkeys(every, ""))
        return names, dict(check_labels(dict(constant)))
