"""Merged families, as prometheus_client's `Metric`.

A `MergedFamily` *is* a `Metric`, for every registry, parser and exporter that expects one, but it
builds its samples only when a caller asks for them. The page is written straight from the merged
numbers, and only lines whose number has changed since the last scrape are formatted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast

from prometheus_client import Metric
from prometheus_client.samples import Sample

from mpmetrics.exposition import LinePrefixes, format_lines, format_value, render_header

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpmetrics.exposition import Format
    from mpmetrics.format import Labels

    SampleName = tuple[str, Labels]
    Values = Sequence[float | None]

_FORMATS_REMEMBERED: Final = 8


class Naming(Protocol):
    """The names of a family's series, in page order."""

    def names(self) -> Sequence[SampleName]:
        """Return sample name and labels of each series."""
        ...  # pragma: no cover - a protocol has no body

    def prefixes(self, prefixes: LinePrefixes) -> list[str]:
        """Return the prefix of each series' line: everything before its value."""
        ...  # pragma: no cover - a protocol has no body


class PlainNaming(list["SampleName"]):
    """A list of series names."""

    def names(self) -> Sequence[SampleName]:
        """Return sample name and labels of each series."""
        return self

    def prefixes(self, prefixes: LinePrefixes) -> list[str]:
        """Return the prefix of each series' line: everything before its value."""
        return prefixes.samples(self)


class _LastText(NamedTuple):
    """The text that a template wrote last in one format, with the parts to reuse in the next."""

    header: str
    prefixes: list[str]
    values: Values
    lines: list[str]
    text: str


class Template:
    """A family without its values: name, type, help and the names of its series.

    It also remembers the text that it wrote last in each format. That memory is immutable values,
    replaced as a whole, so any number of threads may write at once.
    """

    def __init__(
        self, name: str, kind: str, help_text: str, naming: Naming, *, some_may_lack: bool = False
    ) -> None:
        """Take the family's *name*, type (*kind*), *help_text* and the names of its series.

        With *some_may_lack*, a series may be without a value (None): a gauge not yet set.
        """
        self.name = name
        self.type = kind
        self.help = help_text
        self._naming = naming
        self._some_may_lack = some_may_lack
        self._last_texts: dict[Format, _LastText] = {}

    def names(self) -> Sequence[SampleName]:
        """Return sample name and labels of each series, in page order."""
        return self._naming.names()

    def samples(self, values: Values) -> list[Sample]:
        """Return a sample for each series that has a value."""
        return [
            Sample(name, dict(labels), value)
            for (name, labels), value in zip(self._naming.names(), values, strict=True)
            if value is not None
        ]

    def text(self, values: Values, form: Format) -> str:
        """Return the family's lines, "" if no series has a value."""
        last = self._last_texts.get(form) or self._prepare(form)
        if last.values is values:
            return last.text
        lines = self._format_lines(values, last)
        text = "".join([last.header, *lines]) if any(lines) else ""
        if form not in self._last_texts and len(self._last_texts) >= _FORMATS_REMEMBERED:
            self._last_texts = {}
        self._last_texts[form] = last._replace(values=values, lines=lines, text=text)
        return text

    def _format_lines(self, values: Values, last: _LastText) -> list[str]:
        """Return a line for each series, "" for a series without a value."""
        if not self._some_may_lack:
            numbers = cast("Sequence[float]", values)
            return format_lines(last.prefixes, numbers, last.values, last.lines)
        return [
            "" if value is None else f"{prefix}{format_value(value)}\n"
            for prefix, value in zip(last.prefixes, values, strict=True)
        ]

    def _prepare(self, form: Format) -> _LastText:
        """Return the header and the prefixes in a format that was not written yet, no values."""
        header = render_header(self.name, self.type, self.help, form)
        prefixes = self._naming.prefixes(LinePrefixes(form))
        no_values = [None] * len(prefixes)
        return _LastText(header, prefixes, no_values, [""] * len(prefixes), "")


class MergedFamily(Metric):
    """A family of the merged view at one moment; `samples` are built at their first use."""

    def __init__(self, template: Template, values: Values) -> None:
        """Join the *template*, which stays from scrape to scrape, with the *values* of one."""
        # Not Metric.__init__: its name check depends on the version, and our names are escaped.
        self.name = template.name
        self.documentation = template.help
        self.unit = ""
        self.type = template.type
        self._template = template
        self._values = values
        self._labels: Labels = ()
        self._samples: list[Sample] | None = None

    def with_labels(self, labels: Labels) -> MergedFamily:
        """Return the family with *labels* added to each sample that lacks them."""
        family = MergedFamily(self._template, self._values)
        family._labels = _add_labels(labels, self._labels)
        return family

    @property
    def samples(self) -> list[Sample]:
        """The samples, a list that belongs to the caller."""
        if self._samples is None:
            samples = self._template.samples(self._values)
            added = dict(self._labels)
            self._samples = (
                [sample._replace(labels={**added, **sample.labels}) for sample in samples]
                if added
                else samples
            )
        return self._samples

    @samples.setter
    def samples(self, samples: list[Sample]) -> None:
        self._samples = samples

    @property
    def has_samples(self) -> bool:
        """Whether any series has a value; this builds no samples."""
        return any(value is not None for value in self._values)

    def text(self, form: Format) -> str:
        """Return the family's lines in the given format."""
        if self._labels:
            form = form._replace(labels=_add_labels(form.labels, self._labels))
        return self._template.text(self._values, form)


def _add_labels(labels: Labels, stronger: Labels) -> Labels:
    """Return all labels, sorted by name; of two with the same name only the *stronger*."""
    return tuple(sorted({**dict(labels), **dict(stronger)}.items()))
