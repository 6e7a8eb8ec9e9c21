"""The metrics of a bridge: each scrape reads what the parts of the bridge have counted."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from mpmetrics.engines.families import Family
from mpmetrics.errors import LabelError
from mpmetrics.exposition import check_labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mpmetrics.engines.events.pipeline import Pipeline
    from mpmetrics.engines.events.sinks import Sink

    Values = defaultdict[tuple[str, ...], float]

_PREFIX: Final = "mpmetrics_kv"
_MEDIUM: Final = ("medium", "dp_rank")

# The keys are the names under which the parts count.
_FAMILIES: Final[Mapping[str, Family]] = {
    key: Family(f"{_PREFIX}_{name}", kind, labels, meaning)
    for key, name, kind, labels, meaning in (
        (
            "events",
            "events",
            "counter",
            ("stage", "event_type"),
            "Events of engines: received, and accepted",
        ),
        (
            "filtered",
            "filtered_events",
            "counter",
            ("event_type", "reason"),
            "Events left out because routing by prefixes cannot use them, by reason",
        ),
        (
            "issues",
            "conversion_issues",
            "counter",
            ("event_type", "reason"),
            "Events left out because they could not be converted, by reason",
        ),
        ("batches", "batches", "counter", ("dp_rank",), "Messages of engines that were read"),
        (
            "problems",
            "malformed_messages",
            "counter",
            ("reason",),
            "Messages left out because they could not be read",
        ),
        (
            "gaps",
            "gaps",
            "counter",
            ("dp_rank", "kind"),
            "How often the numbers of messages had a gap, began late, or began again",
        ),
        (
            "lost",
            "lost_messages",
            "counter",
            ("dp_rank",),
            "Messages that were missing, and that no replay has brought",
        ),
        (
            "replays",
            "replays",
            "counter",
            ("dp_rank", "outcome"),
            "Replays of missing messages, by how they ended",
        ),
        ("stored", "blocks_stored", "counter", _MEDIUM, "Blocks stored that were not there"),
        ("removed", "blocks_removed", "counter", _MEDIUM, "Blocks of which no copy is left"),
        (
            "held",
            "removals_held",
            "counter",
            _MEDIUM,
            "Removals of blocks not passed on, since another copy is left",
        ),
        (
            "hits",
            "hit_tokens",
            "counter",
            ("dp_rank",),
            "Tokens of prefixes that another prompt has found stored; a lower bound",
        ),
        ("sent", "sent_events", "counter", ("sink",), "Events that a sink has taken"),
        (
            "failures",
            "sink_failures",
            "counter",
            ("sink", "reason"),
            "Failures of a sink, by reason",
        ),
        (
            "rejected",
            "rejected_events",
            "counter",
            ("sink", "reason"),
            "Events that a sink will never take, by reason",
        ),
        (
            "dropped",
            "dropped_events",
            "counter",
            ("sink",),
            "Events that were lost because too many waited for a sink",
        ),
        (
            "forgotten",
            "blocks_forgotten",
            "counter",
            _MEDIUM,
            "Blocks that count no longer as resident, since too many are known",
        ),
        ("resident", "blocks_resident", "gauge", _MEDIUM, "Blocks that are stored now"),
        (
            "connections",
            "publisher_up",
            "gauge",
            ("dp_rank", "socket"),
            "Whether the engine answers at its endpoints for live messages and replays: 1, or 0",
        ),
        ("lag", "lag_seconds", "gauge", ("dp_rank",), "Age of the last message when it was read"),
        ("queue", "queued_events", "gauge", ("sink",), "Events that wait for a sink"),
    )
}

EVENT_FAMILIES: Final[Sequence[Family]] = tuple(_FAMILIES.values())
"""The families of a bridge."""

_OWN: Final = frozenset(label for family in EVENT_FAMILIES for label in family.labels)


class EventCollector:
    """A collector for a registry, and a source for a `Page`: the metrics of one bridge.

    Constant *labels* distinguish them from those of another bridge.
    """

    def __init__(
        self, pipeline: Pipeline, sinks: Sequence[Sink], labels: Mapping[str, str] | None = None
    ) -> None:
        """Collect what *pipeline* and *sinks* count. Raises `LabelError`."""
        self._pipeline = pipeline
        self._sinks = sinks
        self._constant = dict(check_labels(labels))
        for name in _OWN.intersection(self._constant):
            raise LabelError(name, "the metrics of events have one of this name")

    def readiness_errors(self) -> list[str]:
        """Return a line for each endpoint of the engine where nothing answers, by rank."""
        missing = [at for at, is_up in self._pipeline.connections.copy().items() if not is_up]
        if not self._pipeline.connections:
            return ["the connection to the engine has not begun"]
        return [f"no connection to the {name} endpoint of rank {rank}" for rank, name in missing]

    def describe(self) -> Iterable[Any]:
        """Return nothing: registries need not know names in advance."""
        return []

    def collect(self) -> Iterator[Any]:
        """Yield every family, also those without series."""
        from prometheus_client.metrics_core import (  # it chooses memory or files when imported
            CounterMetricFamily,
            GaugeMetricFamily,
        )

        values = self._read_values()
        for key, family in _FAMILIES.items():
            make = CounterMetricFamily if family.type == "counter" else GaugeMetricFamily
            made = make(family.name, family.help, labels=(*family.labels, *self._constant))
            for labels, value in sorted(values[key].items()):
                made.add_metric((*labels, *self._constant.values()), value)
            yield made

    def _read_values(self) -> defaultdict[str, Values]:
        """Return the values of each family by their labels, by the key of the family."""
        values: defaultdict[str, Values] = defaultdict(lambda: defaultdict(float))
        for tally in (self._pipeline.tally, *(sink.tally for sink in self._sinks)):
            for (key, *labels), count in tally.copy().items():
                values[str(key)][tuple(map(str, labels))] += count
        for (kind,), accepted in values["accepted"].items():
            values["events"]["accepted", kind] = values["events"]["received", kind] = accepted
        for key in ("filtered", "issues"):
            for (kind, _), refused in values[key].items():
                values["events"]["received", kind] += refused
        for rank, medium, blocks in self._pipeline.block_counts.items():
            for key in ("stored", "removed", "held", "forgotten", "resident"):
                values[key][medium, str(rank)] = getattr(blocks, key)
        for sink in self._sinks:
            values["queue"][sink.name,] = len(sink.buffer)
            values["dropped"][sink.name,] = sink.buffer.dropped
        self._read_gauges(values)
        return values

    def _read_gauges(self, values: defaultdict[str, Values]) -> None:
        """Add what is so now of each publisher."""
        for (rank, name), is_up in self._pipeline.connections.copy().items():
            values["connections"][str(rank), name] = is_up
        for rank, lag in self._pipeline.lags.copy().items():
            values["lag"][str(rank),] = lag
