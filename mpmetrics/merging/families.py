"""The border to the ecosystem: merged families as prometheus_client's `Metric`.

A `MergedFamily` *is* a `Metric`, for every registry, parser and exporter that expects one; but
its samples are built only for those who ask for them. The page is written straight from the
merged numbers, and only lines whose number has changed since the last scrape are formatted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast

from prometheus_client import Metric
from prometheus_client.samples import Sample

from mpmetrics.exposition import LinePrefixes, render_header
from mpmetrics.format import format_lines, format_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpmetrics.exposition import Format
    from mpmetrics.format import Labels

    SeriesName = tuple[str, Labels]
    Values = Sequence[float | None]

_FORMATS_REMEMBERED: Final = 8


class Naming(Protocol):
    """The names of a family's series, in page order."""

    def names(self) -> Sequence[SeriesName]:
        """Return sample name and labels of each series."""
        ...  # pragma: no cover - a protocol has no body

    def prefixes(self, prefixes: LinePrefixes) -> list[str]:
        """Return what stands before the value of each series."""
        ...  # pragma: no cover - a protocol has no body


class PlainNaming(list["SeriesName"]):
    """Series names one by one."""

    def names(self) -> Sequence[SeriesName]:
        """Return sample name and labels of each series."""
        return self

    def prefixes(self, prefixes: LinePrefixes) -> list[str]:
        """Return what stands before the value of each series."""
        return prefixes.samples(self)


class _Written(NamedTuple):
    """What was written last in one format, to write again what has not changed."""

    header: str
    prefixes: list[str]
    values: Values
    lines: list[str]
    text: str


class Template:
    """All of a family but its values: name, type, help and the names of its series.

    It also remembers what it wrote last, as values that are only ever replaced as a whole, so
    that any number of threads may write at once.
    """

    def __init__(
        self, name: str, kind: str, help_text: str, naming: Naming, *, some_may_lack: bool = False
    ) -> None:
        """Take the family's *name*, type (*kind*), *help_text* and the names of its series.

        *some_may_lack* a value (None): gauges that nobody has set yet.
        """
        self.name = name
        self.type = kind
        self.help = help_text
        self._naming = naming
        self._some_may_lack = some_may_lack
        self._written: dict[Format, _Written] = {}

    def names(self) -> Sequence[SeriesName]:
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
        """Return the family's lines, "" when no series has a value."""
        before = self._written.get(form) or self._blank(form)
        if before.values is values:
            return before.text
        lines = self._lines(values, before)
        text = "".join([before.header, *lines]) if any(lines) else ""
        if form not in self._written and len(self._written) >= _FORMATS_REMEMBERED:
            self._written = {}
        self._written[form] = before._replace(values=values, lines=lines, text=text)
        return text

    def _lines(self, values: Values, before: _Written) -> list[str]:
        """Return a line for each series, an empty one for a series without a value."""
        if not self._some_may_lack:
            numbers = cast("Sequence[float]", values)
            return format_lines(before.prefixes, numbers, before.values, before.lines)
        return [
            "" if value is None else f"{prefix}{format_value(value)}\n"
            for prefix, value in zip(before.prefixes, values, strict=True)
        ]

    def _blank(self, form: Format) -> _Written:
        """Return what there is before the first writing: headers, prefixes, no values."""
        header = render_header(self.name, self.type, self.help, form)
        prefixes = self._naming.prefixes(LinePrefixes(form))
        nothing = [None] * len(prefixes)
        return _Written(header, prefixes, nothing, [""] * len(prefixes), "")


class MergedFamily(Metric):
    """A family of the merged view at one moment; `samples` are built when first asked for."""

    def __init__(self, template: Template, values: Values) -> None:
        """Join what stays (*template*) with what was merged now (*values*)."""
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
        family._labels = _together(labels, self._labels)
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
        """Whether there is anything to expose, without building it."""
        return any(value is not None for value in self._values)

    def text(self, form: Format) -> str:
        """Return the family's lines in the given format."""
        if self._labels:
            form = form._replace(labels=_together(form.labels, self._labels))
        return self._template.text(self._values, form)


def _together(labels: Labels, stronger: Labels) -> Labels:
    """Return both sorted by name; of two with one name the *stronger*."""
    return tuple(sorted({**dict(labels), **dict(stronger)}.items()))
