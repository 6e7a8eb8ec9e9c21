"""The lines of a page: one for each sample, with its name, labels, value and exemplar."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpmetrics.exposition.escaping import VALUES, escape_value
from mpmetrics.exposition.names import metric_type
from mpmetrics.exposition.numbers import format_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client import Metric
    from prometheus_client.samples import Exemplar, Sample

    from mpmetrics.exposition.formats import Format
    from mpmetrics.format import Labels


class LinePrefixes:
    """The prefixes of lines in one format: everything of a line before the value.

    Names and labels repeat from line to line, so each is escaped once and then remembered.
    """

    def __init__(self, form: Format) -> None:
        """Start with nothing remembered. The labels that *form* adds are in every prefix."""
        self.form = form
        self._added = dict(form.labels)
        self._names: dict[str, str] = {}
        self._label_names: dict[str, str] = {}
        self._pairs: dict[tuple[str, str], str] = {}
        self._replaced = False

    def sample(self, name: str, labels: Labels) -> str:
        """Return the prefix of a sample; *labels* are sorted by name."""
        labels = self._complete(labels)
        return self.join(name, self._write_labels(labels, labels))

    def samples(self, series: Iterable[tuple[str, Labels]]) -> list[str]:
        """Return what `sample` returns for each of many samples, with fewer calls."""
        if self._added:
            return [self.sample(name, labels) for name, labels in series]
        names, known = self._names, self._pairs
        prefixes = [
            f"{names.get(name) or self._open(name)}"
            f"{','.join([known.get(pair) or self._write_label(pair) for pair in labels])}}} "
            if labels
            else self.sample(name, labels)
            for name, labels in series
        ]
        if self._replaced:
            return [self.sample(name, labels) for name, labels in series]
        return prefixes

    def split(self, labels: Labels, label: str) -> tuple[str, str]:
        """Return *labels* as text in two parts: those before and those after the name *label*."""
        labels = self._complete(labels)
        before = [pair for pair in labels if pair[0] < label]
        return self._write_labels(before, labels), self._write_labels(labels[len(before) :], labels)

    def join(self, name: str, *pairs: str) -> str:
        """Return the prefix of sample *name* from its labels as texts: *pairs*, some of them ""."""
        opening = self._names.get(name) or self._open(name)
        text = ",".join(filter(None, pairs))
        if text:
            return f"{opening}{text}}} "
        return f"{opening.rstrip('{,')}{'}' if opening[0] == '{' else ''} "

    def _complete(self, labels: Labels) -> Labels:
        """Add the labels of the format; a label of the series beats one of the same name."""
        if not self._added:
            return labels
        return tuple(sorted({**self._added, **dict(labels)}.items()))

    def _write_labels(self, labels: Sequence[tuple[str, str]], line_labels: Labels) -> str:
        """Write *labels*; *line_labels* are all labels of their line."""
        known = self._pairs
        text = ",".join([known.get(pair) or self._write_label(pair) for pair in labels])
        return self._write_distinct_labels(labels, line_labels) if self._replaced else text

    def _write_label(self, pair: tuple[str, str]) -> str:
        """Write one label, and remember whether its name had characters replaced."""
        name, value = pair
        written = self._label_names.get(name)
        if written is None:
            written = self._label_names[name] = self.form.label_name(name)
            self._replaced |= written != name and written[0] != '"'
        self._pairs[pair] = text = f'{written}="{escape_value(value)}"'
        return text

    def _write_distinct_labels(self, labels: Sequence[tuple[str, str]], line_labels: Labels) -> str:
        """Write *labels* when names in this format may have had characters replaced.

        A replacement can make two names of one line equal, or a name look like one that is
        reserved for Prometheus itself. Such names are written by the scheme that keeps all names
        different.
        """
        written = [self.form.label_name(name) for name, _ in line_labels]
        keeping = self.form._replace(escaping=VALUES)
        parts = []
        for name, value in labels:
            text = self.form.label_name(name)
            if text != name and (text.startswith("__") or written.count(text) > 1):
                text = keeping.label_name(name)
            parts.append(f'{text}="{escape_value(value)}"')
        return ",".join(parts)

    def _open(self, name: str) -> str:
        """Return what stands before the labels; a name in quotes stands inside the braces."""
        written = self.form.name(name)
        self._names[name] = text = f"{{{written}," if written[0] == '"' else f"{written}{{"
        return text


def is_native(sample: Sample) -> bool:
    """Return whether *sample* is a native histogram, which neither format has."""
    return bool(getattr(sample, "native_histogram", None))


def sample_line(family: Metric, sample: Sample, prefixes: LinePrefixes) -> str:
    """Return the line of one *sample*, "" for a native histogram."""
    if is_native(sample):
        return ""
    name = sample.name
    labels = tuple(sorted((key, str(value)) for key, value in sample.labels.items()))
    timestamp = exemplar = ""
    openmetrics = prefixes.form.openmetrics
    if sample.timestamp is not None:
        milliseconds = int(float(sample.timestamp) * 1000)
        timestamp = f" {sample.timestamp if openmetrics else milliseconds}"
    suffix = metric_type(family.type).exemplars
    if sample.exemplar and openmetrics and suffix and name.endswith(suffix):
        exemplar = _format_exemplar(sample.exemplar)
    prefix = prefixes.sample(name, labels)
    return f"{prefix}{format_value(float(sample.value))}{timestamp}{exemplar}\n"


def _format_exemplar(exemplar: Exemplar) -> str:
    """Return an *exemplar* as OpenMetrics has it behind a value."""
    labels = sorted(exemplar.labels.items())
    pairs = ",".join(f'{name}="{escape_value(value)}"' for name, value in labels)
    timestamp = f" {exemplar.timestamp}" if exemplar.timestamp is not None else ""
    return f" # {{{pairs}}} {format_value(float(exemplar.value))}{timestamp}"
